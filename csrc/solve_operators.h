// The loops as every backend has them: arguments and their checks. A backend brings the loops that are declared
// first.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "cross_distill.h"
#include "solve.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_scale(const char* op, double scale) {
  TORCH_CHECK(std::isfinite(scale) && scale >= 0, op, ": scale must be finite and at least 0, got ", scale);
}

// ---- on moments ----

// Steps on scale (tr W H W^T - 2 tr W C^T), C contiguous; returns the loss before every step, float64 [T].
at::Tensor run_quadratic(const Loop& loop, const at::Tensor& hessian, const at::Tensor& target, double scale);

inline at::Tensor solve_quadratic_(at::Tensor& weight, at::TensorList state, const std::optional<at::Tensor>& mask,
                                   const at::Tensor& hessian, const at::Tensor& target,
                                   const at::Tensor& learning_rates, const at::Tensor& amounts, double scale, bool adam,
                                   at::ArrayRef<double> coefficients, std::string_view penalty, int64_t dim,
                                   int64_t first_step) {
  constexpr const char* op = "solve_quadratic_";
  const Optimizer optimizer = optimizer_of(op, adam, coefficients);
  const Loop loop{op,  weight,    state, mask, learning_rates, amounts, optimizer, penalty_of(op, penalty),
                  dim, first_step};
  loop.check();
  check_scale(op, scale);
  const int64_t rows = weight.size(0), columns = c10::multiply_integers(weight.sizes().slice(1));
  check_same_dtype(op, "hessian", hessian, "weight", weight);
  check_same_dtype(op, "target", target, "weight", weight);
  TORCH_CHECK(hessian.dim() == 2 && hessian.size(0) == columns && hessian.size(1) == columns, op, ": hessian must be [",
              columns, ", ", columns, "], got ", hessian.sizes());
  TORCH_CHECK(target.dim() == 2 && target.size(0) == rows && target.size(1) == columns, op, ": target must be [", rows,
              ", ", columns, "], got ", target.sizes());
  loop.check_apart(
      {{"hessian", hessian}, {"target", target}, {"learning_rates", learning_rates}, {"amounts", amounts}});
  return run_quadratic(loop, hessian, target.contiguous(), scale);
}

// ---- on inputs and targets ----

// One layer on cached inputs and activated targets, channels last: the layout in which convolutions are fastest.
struct Images {
  at::Tensor input;                        // [N, C_in, H, W]
  at::Tensor target;                       // [N, C_out, H_out, W_out]
  std::optional<at::Tensor> bias;          // [C_out]
  std::optional<at::Tensor> shortcut;      // [N, C_out, H_out, W_out]
  std::optional<at::Tensor> image_weight;  // [N]
  bool relu;
  ConvGeometry conv;

  void check(const char* op, const at::Tensor& weight) const {
    check_same_dtype(op, "input", input, "weight", weight);
    check_rank(op, "input", input, 4, "[N, C_in, H, W]");
    check_geometry(op, conv, input);
    const auto shape = check_side(op, "", conv, input, weight, bias);
    for (const auto& [name, tensor] : {std::pair{"target", std::optional(target)}, std::pair{"shortcut", shortcut}}) {
      if (!tensor) continue;
      check_same_dtype(op, name, *tensor, "weight", weight);
      TORCH_CHECK(tensor->sizes() == at::IntArrayRef(shape), op, ": ", name, " must have the layer's output shape ",
                  at::IntArrayRef(shape), ", got ", tensor->sizes());
    }
    if (!image_weight) return;
    check_same_dtype(op, "image_weight", *image_weight, "weight", weight);
    TORCH_CHECK(image_weight->dim() == 1 && image_weight->size(0) == input.size(0), op, ": image_weight must be [",
                input.size(0), "], got ", image_weight->sizes());
  }

  Images batch(int64_t begin, int64_t count) const {
    const auto part = [&](const std::optional<at::Tensor>& tensor) {
      return tensor ? std::optional(tensor->narrow(0, begin, count)) : std::nullopt;
    };
    return {*part(input), *part(target), bias, part(shortcut), part(image_weight), relu, conv};
  }
};

// Steps on scale / images of a batch times the sum of squared differences, batches of `batch_size` images in turn;
// returns the loss before every step, float64 [T].
at::Tensor run_images(const Loop& loop, const Images& all, int64_t batch_size, double scale);

inline at::Tensor solve_relu_(at::Tensor& weight, at::TensorList state, const std::optional<at::Tensor>& mask,
                              const at::Tensor& input, const at::Tensor& target, const std::optional<at::Tensor>& bias,
                              const std::optional<at::Tensor>& shortcut, const std::optional<at::Tensor>& image_weight,
                              const at::Tensor& learning_rates, const at::Tensor& amounts, double scale,
                              std::string_view activation, at::IntArrayRef stride, at::IntArrayRef padding,
                              at::IntArrayRef dilation, int64_t batch_size, bool adam,
                              at::ArrayRef<double> coefficients, std::string_view penalty, int64_t dim,
                              int64_t first_step) {
  constexpr const char* op = "solve_relu_";
  const Optimizer optimizer = optimizer_of(op, adam, coefficients);
  const Loop loop{op,  weight,    state, mask, learning_rates, amounts, optimizer, penalty_of(op, penalty),
                  dim, first_step};
  loop.check();
  check_scale(op, scale);
  const auto by_pixels = [](const at::Tensor& tensor) {
    return tensor.dim() == 4 ? tensor.contiguous(at::MemoryFormat::ChannelsLast) : tensor;
  };
  const Images all{by_pixels(input),
                   by_pixels(target),
                   bias,
                   shortcut ? std::optional(by_pixels(*shortcut)) : std::nullopt,
                   image_weight ? std::optional(image_weight->contiguous()) : std::nullopt,
                   check_activation(op, activation),
                   {stride, padding, dilation, 1}};
  all.check(op, weight);
  TORCH_CHECK(batch_size >= 0, op, ": batch_size must be at least 0, got ", batch_size);
  loop.check_apart({{"input", input},
                    {"target", target},
                    {"bias", bias},
                    {"shortcut", shortcut},
                    {"image_weight", image_weight},
                    {"learning_rates", learning_rates},
                    {"amounts", amounts}});
  const int64_t images = input.size(0), size = batch_size == 0 ? images : std::min(batch_size, images);
  TORCH_CHECK(images >= 1 || loop.num_steps() == 0, op, ": input must hold at least one image, got ", input.sizes());
  return run_images(loop, all, size, scale);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
