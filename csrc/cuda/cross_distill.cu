// Cross distillation on CUDA devices: a fused kernel for small layers, and the passes over memory around the
// convolutions of cuDNN for the others.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "cross_distill_operators.h"
#include "cuda/convolution_launch.cuh"
#include "cuda/cross_distill_kernels.cuh"
#include "cuda/dispatch.cuh"
#include "cuda/launch.cuh"

namespace {

using fsc::device::kMixThreads;
constexpr int64_t kScratch = kMixThreads / fsc::device::kWarp * sizeof(double);
// Few enough for one block to add up.
constexpr int64_t kMostSums = 4096;

template <typename scalar_t>
scalar_t* destination(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<scalar_t>() : nullptr;
}

// Multiply-adds up to which a layer is taken to be bound by launches and memory, so that fusing pays; a paper
// estimate that no GPU has confirmed yet.
constexpr int64_t kMostFusedWork = int64_t{1} << 29;

bool fuses(const fsc::Layer& layer, int64_t pixels) {
  return layer.conv.groups == 1 && layer.weight_teacher.sizes() == layer.weight_student.sizes() &&
         layer.weight_student.numel() * pixels <= kMostFusedWork && pixels > 0 && layer.weight_student.numel() > 0;
}

// The dense layout in which the fused kernels read both inputs.
std::tuple<at::Tensor, at::Tensor> inputs_of(const fsc::Layer& layer) {
  const auto format = layer.input_student.suggest_memory_format();
  const at::Tensor student = layer.input_student.contiguous(format);
  return {fsc::in_layout_of(layer.input_teacher, student), student};
}

std::tuple<at::Tensor, at::Tensor> fused_loss(const fsc::Layer& layer, at::IntArrayRef shape) {
  const fsc::OnDeviceOf guard(layer.input_student);
  const auto [teacher, student] = inputs_of(layer);
  const auto options = student.options();
  const at::Tensor residual = at::empty(shape, options.memory_format(student.suggest_memory_format()));
  const at::Tensor loss = at::empty({}, options);
  const at::Tensor weight_teacher = layer.weight_teacher.contiguous(), weight = layer.weight_student.contiguous();
  const auto contiguous = [](const std::optional<at::Tensor>& bias) {
    return bias ? std::optional(bias->contiguous()) : std::nullopt;
  };
  const auto bias_teacher = contiguous(layer.bias_teacher), bias = contiguous(layer.bias_student);
  const auto conv = fsc::convolution_of(layer.conv, student, weight, residual);
  FSC_DISPATCH(student.scalar_type(), "cross_distill_layer", [&] {
    using Memory = fsc::device::LayerMemory<fsc::device::wide_t<scalar_t>>;
    const fsc::Grid grid = fsc::output_grid<Memory>(conv);
    const at::Tensor sums = at::empty({grid.blocks * grid.blocks_y}, options.dtype(at::kDouble));
    const fsc::device::LayerPointers<scalar_t> pointers{teacher.const_data_ptr<scalar_t>(),
                                                        student.const_data_ptr<scalar_t>(),
                                                        weight_teacher.const_data_ptr<scalar_t>(),
                                                        weight.const_data_ptr<scalar_t>(),
                                                        fsc::pointer<scalar_t>(bias_teacher),
                                                        fsc::pointer<scalar_t>(bias),
                                                        residual.data_ptr<scalar_t>(),
                                                        sums.data_ptr<double>(),
                                                        layer.alpha,
                                                        layer.beta,
                                                        {layer.relu(), layer.relu()}};
    fsc::launch<true>(grid, fsc::device::layer_kernel<scalar_t>, pointers, conv);
    fsc::launch<true>({1, kMixThreads, kScratch}, fsc::device::total_kernel<scalar_t>, sums.const_data_ptr<double>(),
                      sums.numel(), layer.per_image(), loss.data_ptr<scalar_t>());
  });
  return {loss, residual};
}

}  // namespace

void fsc::mix(const at::Tensor& teacher, const at::Tensor& student, const at::Tensor& mixed_teacher,
              const at::Tensor& mixed_student, double alpha, double beta) {
  const OnDeviceOf guard(teacher);
  FSC_DISPATCH(teacher.scalar_type(), "soft_cross_mix", [&] {
    constexpr int width = kVectorWidth<scalar_t>;
    const scalar_t *t = teacher.const_data_ptr<scalar_t>(), *s = student.const_data_ptr<scalar_t>();
    scalar_t *to_teacher = destination<scalar_t>(mixed_teacher), *to_student = destination<scalar_t>(mixed_student);
    const bool wide = aligned(t, s, to_teacher, to_student);
    launch<false>(grid_over(ceil_div(teacher.numel(), wide ? width : 1), kMixThreads),
                  wide ? device::mix_kernel<scalar_t, width> : device::mix_kernel<scalar_t, 1>, t, s, to_teacher,
                  to_student, teacher.numel(), alpha, beta);
  });
}

at::Tensor fsc::residual_and_loss(const at::Tensor& preactivation, const at::Tensor& target, const at::Tensor& residual,
                                  bool relu, bool relu_target, double scale) {
  const OnDeviceOf guard(preactivation);
  const auto options = preactivation.options().memory_format(std::nullopt);
  const int64_t numel = preactivation.numel();
  at::Tensor loss = at::empty({}, options);
  FSC_DISPATCH(preactivation.scalar_type(), "distill_residual", [&] {
    constexpr int width = kVectorWidth<scalar_t>;
    const scalar_t *s = preactivation.const_data_ptr<scalar_t>(), *t = target.const_data_ptr<scalar_t>();
    scalar_t* to = residual.data_ptr<scalar_t>();
    const bool wide = aligned(s, t, to);
    Grid grid = grid_over(ceil_div(numel, wide ? width : 1), kMixThreads);
    grid.blocks = std::min(grid.blocks, kMostSums);
    grid.shared_bytes = kScratch;
    const at::Tensor sums = at::empty({grid.blocks}, options.dtype(at::kDouble));
    launch<true>(grid, wide ? device::residual_kernel<scalar_t, width> : device::residual_kernel<scalar_t, 1>, s, t, to,
                 sums.data_ptr<double>(), numel, device::Epilogue{relu, relu_target});
    launch<true>({1, kMixThreads, kScratch}, device::total_kernel<scalar_t>, sums.const_data_ptr<double>(), grid.blocks,
                 scale, loss.data_ptr<scalar_t>());
  });
  return loss;
}

std::tuple<at::Tensor, at::Tensor> fsc::layer_loss(const Layer& layer) {
  const auto shape = layer.check();
  return fuses(layer, shape[0] * shape[2] * shape[3]) ? fused_loss(layer, shape) : convolved_loss(layer);
}

std::optional<at::Tensor> fsc::own_weight_gradient(const Layer& layer, const at::Tensor& residual,
                                                   const at::Tensor& grad_loss) {
  if (!fuses(layer, residual.numel() / std::max<int64_t>(1, residual.size(1)))) return {};
  const OnDeviceOf guard(residual);
  const auto [teacher, student] = inputs_of(layer);
  const auto conv = convolution_of(layer.conv, student, layer.weight_student, residual);
  const GradientPlan plan(conv);
  at::Tensor gradient = at::empty(layer.weight_student.sizes(), student.options());
  FSC_DISPATCH(student.scalar_type(), "cross_distill_layer_backward", [&] {
    using real_t = device::wide_t<scalar_t>;
    const at::Tensor parts =
        at::empty({plan.splits, gradient.numel()}, student.options().dtype(c10::CppTypeToScalarType<real_t>::value));
    launch_weight_gradient<scalar_t>({teacher.const_data_ptr<scalar_t>(), student.const_data_ptr<scalar_t>(),
                                      residual.const_data_ptr<scalar_t>(), parts.data_ptr<real_t>(), 1 - layer.beta, 0},
                                     conv, plan, 2 * layer.per_image(), grad_loss.const_data_ptr<scalar_t>(),
                                     gradient.data_ptr<scalar_t>());
  });
  return gradient;
}

FSC_CUDA_OPERATORS(m) {
  m.impl("soft_cross_mix", fsc::soft_cross_mix);
  m.impl("distill_residual", fsc::distill_residual);
  m.impl("cross_distill_layer", fsc::cross_distill_layer);
  m.impl("cross_distill_layer_backward", fsc::cross_distill_layer_backward);
}
