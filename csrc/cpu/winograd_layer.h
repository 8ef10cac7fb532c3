// Loss and gradient of a layer of cross distillation by Winograd's passes.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "cross_distill_operators.h"

namespace fsc::winograd {

// Loss and residual; none where at::convolution serves better.
std::optional<std::tuple<at::Tensor, at::Tensor>> layer_loss(const fsc::Layer& layer);

// The gradient with respect to the student's weight, contiguous; none where at::convolution serves better.
std::optional<at::Tensor> weight_gradient(const fsc::Layer& layer, const at::Tensor& residual,
                                          const at::Tensor& grad_loss);

}  // namespace fsc::winograd
