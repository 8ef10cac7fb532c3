// Cross distillation on the CPU: the soft cross mixture before the convolutions, the residual epilogue
// after them, and the layer loss that joins both around at::convolution.
#include "cross_distill.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "cpu/cross_distill_kernels.h"

namespace {

using fsc::kBlock;
constexpr int64_t kBlocksPerTask = 32;

int64_t block_count(int64_t numel) { return (numel + kBlock - 1) / kBlock; }

// The tensor with its elements in the memory order of at::empty_like(like); copied only where they are not.
at::Tensor in_layout_of(const at::Tensor& tensor, const at::Tensor& like) {
  if (tensor.strides() == like.strides() && like.is_non_overlapping_and_dense()) return tensor;
  at::Tensor copy = at::empty_like(like);
  return copy.copy_(tensor);
}

// ---- mixture ----

// Writes the mixtures that are defined: alpha h_T + (1 - alpha) h_S and (1 - beta) h_T + beta h_S. All
// tensors share one dense layout; a block of the inputs is read from memory once for both.
void mix(const at::Tensor& teacher, const at::Tensor& student, const at::Tensor& mixed_teacher,
         const at::Tensor& mixed_student, double alpha, double beta) {
  AT_DISPATCH_FLOATING_TYPES(teacher.scalar_type(), "soft_cross_mix", [&] {
    const scalar_t* from_teacher = teacher.const_data_ptr<scalar_t>();
    const scalar_t* from_student = student.const_data_ptr<scalar_t>();
    scalar_t* to_teacher = mixed_teacher.defined() ? mixed_teacher.data_ptr<scalar_t>() : nullptr;
    scalar_t* to_student = mixed_student.defined() ? mixed_student.data_ptr<scalar_t>() : nullptr;
    const int64_t numel = teacher.numel();
    at::parallel_for(0, block_count(numel), kBlocksPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin * kBlock; b < std::min(numel, end * kBlock); b += kBlock) {
        const int64_t count = std::min(kBlock, numel - b);
        if (to_teacher) {
          fsc::mix_block<scalar_t>(from_teacher + b, from_student + b, to_teacher + b, count, alpha, 1 - alpha);
        }
        if (to_student) {
          fsc::mix_block<scalar_t>(from_teacher + b, from_student + b, to_student + b, count, 1 - beta, beta);
        }
      }
    });
  });
}

std::tuple<at::Tensor, at::Tensor> soft_cross_mix_cpu(const at::Tensor& input_teacher, const at::Tensor& input_student,
                                                      double alpha, double beta) {
  constexpr const char* op = "soft_cross_mix";
  fsc::check_pairable(op, "input_student", input_student, "input_teacher", input_teacher);
  fsc::check_share(op, "alpha", alpha);
  fsc::check_share(op, "beta", beta);
  at::Tensor mixed_teacher = at::empty_like(input_student);
  at::Tensor mixed_student = at::empty_like(input_student);
  mix(in_layout_of(input_teacher, input_student), in_layout_of(input_student, input_student), mixed_teacher,
      mixed_student, alpha, beta);
  return {mixed_teacher, mixed_student};
}

// ---- residual epilogue ----

// The epilogue over whole tensors that share one dense layout; returns the loss before any division.
template <bool kRelu, bool kReluTarget>
double residual_and_loss(const at::Tensor& preactivation, const at::Tensor& target, const at::Tensor& residual) {
  const int64_t numel = preactivation.numel();
  std::vector<double> sums(block_count(numel), 0.0);
  AT_DISPATCH_FLOATING_TYPES(preactivation.scalar_type(), "distill_residual", [&] {
    const scalar_t* source = preactivation.const_data_ptr<scalar_t>();
    const scalar_t* goal = target.const_data_ptr<scalar_t>();
    scalar_t* destination = residual.data_ptr<scalar_t>();
    at::parallel_for(0, block_count(numel), kBlocksPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t b = block * kBlock;
        sums[block] = fsc::residual_block<scalar_t, kRelu, kReluTarget>(source + b, goal + b, destination + b,
                                                                        std::min(kBlock, numel - b));
      }
    });
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

at::Tensor scalar_tensor(double value, const at::Tensor& like) {
  at::Tensor scalar = at::empty({}, like.options());
  AT_DISPATCH_FLOATING_TYPES(like.scalar_type(), "distill_residual",
                             [&] { *scalar.data_ptr<scalar_t>() = static_cast<scalar_t>(value); });
  return scalar;
}

std::tuple<at::Tensor, at::Tensor> distill_residual_cpu(const at::Tensor& preactivation, const at::Tensor& target,
                                                        std::string_view activation) {
  constexpr const char* op = "distill_residual";
  fsc::check_pairable(op, "target", target, "preactivation", preactivation);
  const bool relu = fsc::check_activation(op, activation);
  const at::Tensor source = in_layout_of(preactivation, preactivation);
  const at::Tensor goal = in_layout_of(target, preactivation);
  at::Tensor residual = at::empty_like(preactivation);
  const double loss = relu ? residual_and_loss<true, false>(source, goal, residual)
                           : residual_and_loss<false, false>(source, goal, residual);
  return {scalar_tensor(loss, preactivation), residual};
}

// The epilogue of two preactivations; act'(S) (act(S) - act(T)) takes the memory of S.
double residual_in_place(const at::Tensor& preactivation, const at::Tensor& target, bool relu) {
  const at::Tensor goal = in_layout_of(target, preactivation);
  return relu ? residual_and_loss<true, true>(preactivation, goal, preactivation)
              : residual_and_loss<false, false>(preactivation, goal, preactivation);
}

// ---- layer ----

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
  fsc::ConvGeometry conv;

  // Returns the shape of the two convolutions' output.
  std::array<int64_t, 4> check() const {
    fsc::check_pairable(op, "input_student", input_student, "input_teacher", input_teacher);
    fsc::check_rank(op, "input_student", input_student, 4, "[N, C_in, H, W]");
    fsc::check_share(op, "alpha", alpha);
    fsc::check_share(op, "beta", beta);
    fsc::check_activation(op, activation);
    fsc::check_geometry(op, conv, input_student);
    const auto teacher = fsc::check_side(op, "_teacher", conv, input_student, weight_teacher, bias_teacher);
    const auto student = fsc::check_side(op, "_student", conv, input_student, weight_student, bias_student);
    TORCH_CHECK(teacher == student, op, ": weight_student must give the teacher's output shape ",
                at::IntArrayRef(teacher), ", got ", at::IntArrayRef(student));
    return student;
  }

  bool relu() const { return activation == "relu"; }

  // x_T and x_S; neither input is copied where a mixture is one of them.
  std::tuple<at::Tensor, at::Tensor> mixed_inputs() const {
    const auto format = input_student.suggest_memory_format();
    const at::Tensor teacher = input_teacher.contiguous(format);
    const at::Tensor student = input_student.contiguous(format);
    const auto mixture = [&](double teacher_share) {
      return teacher_share == 1 ? teacher : teacher_share == 0 ? student : at::Tensor();
    };
    at::Tensor x_teacher = mixture(alpha);
    at::Tensor x_student = mixture(1 - beta);
    const at::Tensor new_teacher = x_teacher.defined() ? at::Tensor() : at::empty_like(student);
    const at::Tensor new_student = x_student.defined() ? at::Tensor() : at::empty_like(student);
    if (new_teacher.defined() || new_student.defined()) {
      mix(in_layout_of(teacher, student), student, new_teacher, new_student, alpha, beta);
    }
    return {x_teacher.defined() ? x_teacher : new_teacher, x_student.defined() ? x_student : new_student};
  }

  at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) const {
    return at::convolution(x, weight, bias, conv.stride, conv.padding, conv.dilation, /*transposed=*/false, {0, 0},
                           conv.groups);
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor> convolve_backward(const at::Tensor& grad_output, const at::Tensor& x,
                                                                   const at::Tensor& weight,
                                                                   std::array<bool, 3> mask) const {
    return at::convolution_backward(grad_output, x, weight, at::IntArrayRef{weight.size(0)}, conv.stride, conv.padding,
                                    conv.dilation, /*transposed=*/false, {0, 0}, conv.groups, mask);
  }

  // An empty batch has the loss 0.
  double per_image() const { return 1.0 / std::max<int64_t>(1, input_student.size(0)); }
};

// The tensors must outlive the layer.
Layer layer_of(const char* op, const at::Tensor& input_teacher, const at::Tensor& input_student,
               const at::Tensor& weight_teacher, const at::Tensor& weight_student,
               const std::optional<at::Tensor>& bias_teacher, const std::optional<at::Tensor>& bias_student,
               double alpha, double beta, std::string_view activation, at::IntArrayRef stride, at::IntArrayRef padding,
               at::IntArrayRef dilation, int64_t groups) {
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

std::tuple<at::Tensor, at::Tensor> cross_distill_layer_cpu(
    const at::Tensor& input_teacher, const at::Tensor& input_student, const at::Tensor& weight_teacher,
    const at::Tensor& weight_student, const std::optional<at::Tensor>& bias_teacher,
    const std::optional<at::Tensor>& bias_student, double alpha, double beta, std::string_view activation,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  const Layer layer = layer_of("cross_distill_layer", input_teacher, input_student, weight_teacher, weight_student,
                               bias_teacher, bias_student, alpha, beta, activation, stride, padding, dilation, groups);
  layer.check();
  const auto [x_teacher, x_student] = layer.mixed_inputs();
  const at::Tensor target = layer.convolve(x_teacher, weight_teacher, bias_teacher);  // [N, C_out, H_out, W_out]
  at::Tensor residual = layer.convolve(x_student, weight_student, bias_student);
  const double total = residual_in_place(residual, target, layer.relu());
  return {scalar_tensor(total * layer.per_image(), residual), residual};
}

// d(N loss)/dZ_T = -2 act'(Z_T) (act(Z_S) - act(Z_T)): the residual with the two sides exchanged. With ReLU the
// stored residual does not hold it where Z_S <= 0, so both preactivations are computed again.
at::Tensor grad_through_teacher(const Layer& layer, const at::Tensor& residual, const at::Tensor& x_teacher,
                                const at::Tensor& x_student) {
  at::Tensor exchanged;
  if (layer.relu()) {
    exchanged = layer.convolve(x_teacher, layer.weight_teacher, layer.bias_teacher);
    residual_in_place(exchanged, layer.convolve(x_student, layer.weight_student, layer.bias_student), true);
  } else {
    exchanged = residual.neg();
  }
  return std::get<0>(layer.convolve_backward(exchanged, x_teacher, layer.weight_teacher, {true, false, false}));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> cross_distill_layer_backward_cpu(
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
  const auto [x_teacher, x_student] = layer.mixed_inputs();
  // The convolution is linear, so the factor 2 / N meets its small results instead of the residual.
  const double scale = 2 * grad_loss.item<double>() * layer.per_image();
  const bool through_student = output_mask[0] && beta > 0;
  auto [grad_x, grad_weight, grad_bias] =
      layer.convolve_backward(residual, x_student, weight_student, {through_student, output_mask[1], output_mask[2]});
  at::Tensor grad_input;
  if (output_mask[0]) {
    grad_input = at::zeros_like(input_student);
    if (through_student) grad_input.add_(grad_x, scale * beta);
    if (alpha < 1) grad_input.add_(grad_through_teacher(layer, residual, x_teacher, x_student), scale * (1 - alpha));
  }
  if (output_mask[1]) grad_weight = in_layout_of(grad_weight.mul_(scale), weight_student);
  if (output_mask[2]) grad_bias.mul_(scale);
  return {grad_input, grad_weight, grad_bias};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("soft_cross_mix", soft_cross_mix_cpu);
  m.impl("distill_residual", distill_residual_cpu);
  m.impl("cross_distill_layer", cross_distill_layer_cpu);
  m.impl("cross_distill_layer_backward", cross_distill_layer_backward_cpu);
}
