// What every backend of the proximal operators checks before it works.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_threshold(const char* op, double threshold) {
  TORCH_CHECK(std::isfinite(threshold) && threshold >= 0, op, ": threshold must be finite and at least 0, got ",
              threshold);
}

inline int64_t check_group_dim(const char* op, const at::Tensor& weight, int64_t dim) {
  TORCH_CHECK(weight.dim() >= 1, op, ": weight must have groups, so rank at least 1, got ", weight.sizes());
  return check_dim(op, dim, weight);
}

inline int64_t check_group_arguments(const char* op, const at::Tensor& weight, double threshold, int64_t dim) {
  check_floating(op, "weight", weight);
  check_threshold(op, threshold);
  return check_group_dim(op, weight, dim);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
