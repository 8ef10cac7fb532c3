// The operators of cross distillation as every backend has them: arguments, mixtures, the layer loss around
// at::convolution. A backend brings the passes over memory that are declared first.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/as_strided.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <tuple>

#include "cross_distill.h"

namespace fsc {
inline namespace FSC_BACKEND {

// ---- of each backend ----

// Writes the mixtures that are defined: alpha h_T + (1 - alpha) h_S and (1 - beta) h_T + beta h_S. All tensors share
// one dense layout.
void mix(const at::Tensor& teacher, const at::Tensor& student, const at::Tensor& mixed_teacher,
         const at::Tensor& mixed_student, double alpha, double beta);

// residual = act'(S) (act(S) - T), where `relu` says what act is, and T is activated first where `relu_target`.
// Returns scale times the sum of (act(S) - T)^2, a scalar of S's dtype. All tensors share one dense layout; the
// residual may take the memory of S.
at::Tensor residual_and_loss(const at::Tensor& preactivation, const at::Tensor& target, const at::Tensor& residual,
                             bool relu, bool relu_target, double scale);

struct Layer;

// Loss and residual of a whole layer.
std::tuple<at::Tensor, at::Tensor> layer_loss(const Layer& layer);

// The gradient of the loss with respect to the student's weight, where the backend has a way of its own.
std::optional<at::Tensor> own_weight_gradient(const Layer& layer, const at::Tensor& residual,
                                              const at::Tensor& grad_loss);

// ---- mixture ----

// The tensor with its elements in the memory order of at::empty_like(like); copied only where they are not.
inline at::Tensor in_layout_of(const at::Tensor& tensor, const at::Tensor& like) {
  if (tensor.strides() == like.strides() && like.is_non_overlapping_and_dense()) return tensor;
  at::Tensor copy = at::empty_like(like);
  return copy.copy_(tensor);
}

inline std::tuple<at::Tensor, at::Tensor> soft_cross_mix(const at::Tensor& input_teacher,
                                                         const at::Tensor& input_student, double alpha, double beta) {
  constexpr const char* op = "soft_cross_mix";
  check_pairable(op, "input_student", input_student, "input_teacher", input_teacher);
  check_share(op, "alpha", alpha);
  check_share(op, "beta", beta);
  at::Tensor mixed_teacher = at::empty_like(input_student);
  at::Tensor mixed_student = at::empty_like(input_student);
  mix(in_layout_of(input_teacher, input_student), in_layout_of(input_student, input_student), mixed_teacher,
      mixed_student, alpha, beta);
  return {mixed_teacher, mixed_student};
}

// ---- residual epilogue ----

inline std::tuple<at::Tensor, at::Tensor> distill_residual(const at::Tensor& preactivation, const at::Tensor& target,
                                                           std::string_view activation) {
  constexpr const char* op = "distill_residual";
  check_pairable(op, "target", target, "preactivation", preactivation);
  const bool relu = check_activation(op, activation);
  const at::Tensor source = in_layout_of(preactivation, preactivation);
  const at::Tensor goal = in_layout_of(target, preactivation);
  at::Tensor residual = at::empty_like(preactivation);
  return {residual_and_loss(source, goal, residual, relu, false, 1), residual};
}

// The epilogue of two preactivations; act'(S) (act(S) - act(T)) takes the memory of S.
inline at::Tensor residual_in_place(const at::Tensor& preactivation, const at::Tensor& target, bool relu,
                                    double scale) {
  return residual_and_loss(preactivation, in_layout_of(target, preactivation), preactivation, relu, relu, scale);
}

// ---- layer ----

// The tensor [a, b, c, d] with the strides of a new one in its memory format. A dimension of one element may have any,
// and is_contiguous still says yes; but of channels-last tensors torch's convolutions refuse some, and misread others.
inline at::Tensor plainly_strided(const at::Tensor& tensor) {
  const auto strides_of = [&](const std::array<int, 4>& inwards) {
    std::array<int64_t, 4> strides;
    int64_t step = 1;
    for (const int d : inwards) {
      strides[d] = step;
      step *= std::max<int64_t>(1, tensor.size(d));
    }
    return strides;
  };
  const auto planes = strides_of({3, 2, 1, 0}), pixels = strides_of({1, 3, 2, 0});
  if (tensor.strides() == at::IntArrayRef(planes) || tensor.strides() == at::IntArrayRef(pixels)) return tensor;
  const auto format = tensor.suggest_memory_format();
  const auto& strides = format == at::MemoryFormat::ChannelsLast ? pixels : planes;
  return tensor.contiguous(format).as_strided(tensor.sizes(), strides);
}

// The arguments that the layer's forward and backward share, checked.
struct Layer {
  const char* op;
  const at::Tensor& input_teacher;                // [N, C_in, H, W]
  const at::Tensor& input_student;                // [N, C_in, H, W]
  const at::Tensor& weight_teacher;               // [C_out, C_in / groups, kH, kW]
  const at::Tensor& weight_student;               // [C_out, C_in / groups, kH, kW]
  const std::optional<at::Tensor>& bias_teacher;  // [C_out]
  const std::optional<at::Tensor>& bias_student;  // [C_out]
  double alpha;
  double beta;
  std::string_view activation;
  ConvGeometry conv;

  // Returns the shape of the two convolutions' output.
  std::array<int64_t, 4> check() const {
    check_pairable(op, "input_student", input_student, "input_teacher", input_teacher);
    check_rank(op, "input_student", input_student, 4, "[N, C_in, H, W]");
    check_share(op, "alpha", alpha);
    check_share(op, "beta", beta);
    check_activation(op, activation);
    check_geometry(op, conv, input_student);
    const auto teacher = check_side(op, "_teacher", conv, input_student, weight_teacher, bias_teacher);
    const auto student = check_side(op, "_student", conv, input_student, weight_student, bias_student);
    TORCH_CHECK(teacher == student, op, ": weight_student must give the teacher's output shape ",
                at::IntArrayRef(teacher), ", got ", at::IntArrayRef(student));
    return student;
  }

  bool relu() const { return activation == "relu"; }

  // x_T and x_S, each where it is wanted; neither input is copied where a mixture is one of them.
  std::tuple<at::Tensor, at::Tensor> mixed_inputs(bool wants_teacher = true, bool wants_student = true) const {
    const auto format = input_student.suggest_memory_format();
    const at::Tensor teacher = input_teacher.contiguous(format);
    const at::Tensor student = input_student.contiguous(format);
    const auto mixture = [&](double teacher_share) {
      return teacher_share == 1 ? teacher : teacher_share == 0 ? student : at::Tensor();
    };
    at::Tensor x_teacher = mixture(alpha);
    at::Tensor x_student = mixture(1 - beta);
    const auto place_of = [&](bool wanted, const at::Tensor& x) {
      return wanted && !x.defined() ? at::empty_like(student) : at::Tensor();
    };
    const at::Tensor new_teacher = place_of(wants_teacher, x_teacher);
    const at::Tensor new_student = place_of(wants_student, x_student);
    if (new_teacher.defined() || new_student.defined()) {
      mix(in_layout_of(teacher, student), student, new_teacher, new_student, alpha, beta);
    }
    return {x_teacher.defined() ? x_teacher : new_teacher, x_student.defined() ? x_student : new_student};
  }

  at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) const {
    return at::convolution(plainly_strided(x), plainly_strided(weight), bias, conv.stride, conv.padding,
                           conv.gaps(weight), /*transposed=*/false, {0, 0}, conv.groups);
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor> convolve_backward(const at::Tensor& grad_output, const at::Tensor& x,
                                                                   const at::Tensor& weight,
                                                                   std::array<bool, 3> mask) const {
    return at::convolution_backward(plainly_strided(grad_output), plainly_strided(x), plainly_strided(weight),
                                    at::IntArrayRef{weight.size(0)}, conv.stride, conv.padding, conv.gaps(weight),
                                    /*transposed=*/false, {0, 0}, conv.groups, mask);
  }

  // An empty batch has the loss 0.
  double per_image() const { return 1.0 / std::max<int64_t>(1, input_student.size(0)); }
};

// Loss and residual by two convolutions and the epilogue.
inline std::tuple<at::Tensor, at::Tensor> convolved_loss(const Layer& layer) {
  const auto [x_teacher, x_student] = layer.mixed_inputs();
  const at::Tensor target = layer.convolve(x_teacher, layer.weight_teacher, layer.bias_teacher);
  at::Tensor residual = layer.convolve(x_student, layer.weight_student, layer.bias_student);  // [N, C_out, H', W']
  return {residual_in_place(residual, target, layer.relu(), layer.per_image()), residual};
}

// The tensors must outlive the layer.
inline Layer layer_of(const char* op, const at::Tensor& input_teacher, const at::Tensor& input_student,
                      const at::Tensor& weight_teacher, const at::Tensor& weight_student,
                      const std::optional<at::Tensor>& bias_teacher, const std::optional<at::Tensor>& bias_student,
                      double alpha, double beta, std::string_view activation, at::IntArrayRef stride,
                      at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  return {op,
          input_teacher,
          input_student,
          weight_teacher,
          weight_student,
          bias_teacher,
          bias_student,
          alpha,
          beta,
          activation,
          {stride, padding, dilation, groups}};
}

inline std::tuple<at::Tensor, at::Tensor> cross_distill_layer(
    const at::Tensor& input_teacher, const at::Tensor& input_student, const at::Tensor& weight_teacher,
    const at::Tensor& weight_student, const std::optional<at::Tensor>& bias_teacher,
    const std::optional<at::Tensor>& bias_student, double alpha, double beta, std::string_view activation,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const Layer layer = layer_of("cross_distill_layer", input_teacher, input_student, weight_teacher, weight_student,
                               bias_teacher, bias_student, alpha, beta, activation, stride, padding, dilation, groups);
  layer.check();
  return layer_loss(layer);
}

// d(N loss)/dZ_T = -2 act'(Z_T) (act(Z_S) - act(Z_T)): the residual with the two sides exchanged. With ReLU the
// stored residual does not hold it where Z_S <= 0, so both preactivations are computed again.
inline at::Tensor grad_through_teacher(const Layer& layer, const at::Tensor& residual, const at::Tensor& x_teacher,
                                       const at::Tensor& x_student) {
  at::Tensor exchanged;
  if (layer.relu()) {
    exchanged = layer.convolve(x_teacher, layer.weight_teacher, layer.bias_teacher);
    residual_in_place(exchanged, layer.convolve(x_student, layer.weight_student, layer.bias_student), true, 1);
  } else {
    exchanged = residual.neg();
  }
  return std::get<0>(layer.convolve_backward(exchanged, x_teacher, layer.weight_teacher, {true, false, false}));
}

inline std::tuple<at::Tensor, at::Tensor, at::Tensor> cross_distill_layer_backward(
    const at::Tensor& grad_loss, const at::Tensor& residual, const at::Tensor& input_teacher,
    const at::Tensor& input_student, const at::Tensor& weight_teacher, const at::Tensor& weight_student,
    const std::optional<at::Tensor>& bias_teacher, const std::optional<at::Tensor>& bias_student, double alpha,
    double beta, std::string_view activation, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
    int64_t groups, std::array<bool, 3> output_mask) {
  constexpr const char* op = "cross_distill_layer_backward";
  const Layer layer = layer_of(op, input_teacher, input_student, weight_teacher, weight_student, bias_teacher,
                               bias_student, alpha, beta, activation, stride, padding, dilation, groups);
  const auto shape = layer.check();
  TORCH_CHECK(residual.sizes() == at::IntArrayRef(shape), op, ": residual must be ", at::IntArrayRef(shape), ", got ",
              residual.sizes());
  const auto own = output_mask[1] ? own_weight_gradient(layer, residual, grad_loss) : std::nullopt;
  const bool through_student = output_mask[0] && beta > 0, through_teacher = output_mask[0] && alpha < 1;
  const std::array<bool, 3> convolved{through_student, output_mask[1] && !own, output_mask[2]};
  const auto [x_teacher, x_student] =
      layer.mixed_inputs(through_teacher, convolved[1] || (through_teacher && layer.relu()));
  at::Tensor grad_input, grad_x, grad_weight, grad_bias, scale;
  if (convolved[0] || convolved[1] || convolved[2]) {
    // But for the weight's gradient the input lends its shape alone.
    const at::Tensor& x = x_student.defined() ? x_student : input_student;
    std::tie(grad_x, grad_weight, grad_bias) = layer.convolve_backward(residual, x, weight_student, convolved);
  }
  // The convolution is linear, so the factor 2 / N meets its small results instead of the residual.
  if (through_teacher || grad_x.defined() || grad_weight.defined() || grad_bias.defined()) {
    scale = grad_loss.mul(2 * layer.per_image());
  }
  if (output_mask[0]) {
    grad_input = at::zeros_like(input_student);
    if (through_student) grad_input.addcmul_(grad_x, scale, beta);
    if (through_teacher) {
      grad_input.addcmul_(grad_through_teacher(layer, residual, x_teacher, x_student), scale, 1 - alpha);
    }
  }
  if (output_mask[1]) grad_weight = in_layout_of(own ? *own : grad_weight.mul_(scale), weight_student);
  if (output_mask[2]) grad_bias.mul_(scale);
  return {grad_input, grad_weight, grad_bias};
}

}  // namespace FSC_BACKEND
}  // namespace fsc
