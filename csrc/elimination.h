// What every backend of `elimination_order` checks before it works.
#pragma once

#include <ATen/core/Tensor.h>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_elimination(const char* op, const at::Tensor& weight, const at::Tensor& inverse, int64_t removable) {
  check_rank(op, "weight", weight, 2, "[B, dim]");
  TORCH_CHECK(weight.scalar_type() == at::kDouble, op, ": weight must be float64, got ", weight.scalar_type());
  check_same_dtype(op, "inverse", inverse, "weight", weight);
  check_rank(op, "inverse", inverse, 3, "[B or 1, dim, dim]");
  const int64_t dim = weight.size(1);
  TORCH_CHECK(
      (inverse.size(0) == weight.size(0) || inverse.size(0) == 1) && inverse.size(1) == dim && inverse.size(2) == dim,
      op, ": inverse must be [", weight.size(0), " or 1, ", dim, ", ", dim, "], got ", inverse.sizes());
  TORCH_CHECK(removable >= 0 && removable <= dim, op, ": removable must be in [0, ", dim, "], got ", removable);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
