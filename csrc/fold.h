// What every backend of `fuse_conv_bn` checks before it works.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <optional>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_channels(const char* name, const at::Tensor& vector, const at::Tensor& weight) {
  check_same_dtype("fuse_conv_bn", name, vector, "weight", weight);
  TORCH_CHECK(vector.dim() == 1 && vector.size(0) == weight.size(0), "fuse_conv_bn: ", name,
              " must be [C_out] with C_out = ", weight.size(0), ", got ", vector.sizes());
}

inline void check_fuse(const at::Tensor& weight, const std::optional<at::Tensor>& bias, const at::Tensor& running_mean,
                       const at::Tensor& running_var, const std::optional<at::Tensor>& bn_weight,
                       const std::optional<at::Tensor>& bn_bias, double eps) {
  check_floating("fuse_conv_bn", "weight", weight);
  TORCH_CHECK(weight.dim() >= 2, "fuse_conv_bn: weight must be [C_out, C_in, ...], got ", weight.sizes());
  check_channels("running_mean", running_mean, weight);
  check_channels("running_var", running_var, weight);
  if (bias.has_value()) check_channels("bias", *bias, weight);
  if (bn_weight.has_value()) check_channels("bn_weight", *bn_weight, weight);
  if (bn_bias.has_value()) check_channels("bn_bias", *bn_bias, weight);
  TORCH_CHECK(std::isfinite(eps) && eps >= 0, "fuse_conv_bn: eps must be finite and at least 0, got ", eps);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
