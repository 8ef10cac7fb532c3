// What every backend of the quantizers checks before it works.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

constexpr int64_t kMaxBits = 8;

inline void check_quantize(const char* op, const at::Tensor& weight, int64_t bits, bool per_channel) {
  check_floating(op, "weight", weight);
  TORCH_CHECK(bits >= 1 && bits <= kMaxBits, op, ": bits must be in [1, ", kMaxBits, "], got ", bits);
  TORCH_CHECK(!per_channel || weight.dim() >= 1, op, ": weight must have output channels, so rank at least 1, got ",
              weight.sizes());
}

inline void check_strength(double strength) {
  TORCH_CHECK(std::isfinite(strength) && strength >= 0, "prox_quantize: strength must be finite and at least 0, got ",
              strength);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
