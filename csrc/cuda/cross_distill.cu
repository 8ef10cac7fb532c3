// Cross distillation on CUDA devices: fused kernels where they are worth it, and the passes over memory around the
// convolutions of cuDNN elsewhere.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "cross_distill_operators.h"
#include "cuda/convolution_choice.cuh"
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

// The memory format that at::convolution gives its output, which torch.compile is told to expect.
at::MemoryFormat output_format(const fsc::Layer& layer) {
  constexpr auto channels_last = at::MemoryFormat::ChannelsLast;
  const bool planes = layer.input_student.is_cuda() && layer.input_student.scalar_type() == at::kDouble;  // cuDNN's
  return !planes && (layer.input_student.suggest_memory_format() == channels_last ||
                     layer.weight_student.suggest_memory_format() == channels_last)
             ? channels_last
             : at::MemoryFormat::Contiguous;
}

// The dense layout in which the fused kernels read both inputs.
std::tuple<at::Tensor, at::Tensor> inputs_of(const fsc::Layer& layer) {
  const auto format = layer.input_student.suggest_memory_format();
  const at::Tensor student = layer.input_student.contiguous(format);
  return {fsc::in_layout_of(layer.input_teacher, student), student};
}

// What the fused kernels read beside the inputs: weights [C_out, kH, kW, C_in] in memory, and biases.
struct Dense {
  at::Tensor weight_teacher, weight_student;
  std::optional<at::Tensor> bias_teacher, bias_student;

  explicit Dense(const fsc::Layer& layer)
      : weight_teacher(layer.weight_teacher.contiguous(at::MemoryFormat::ChannelsLast)),
        weight_student(layer.weight_student.contiguous(at::MemoryFormat::ChannelsLast)),
        bias_teacher(contiguous(layer.bias_teacher)),
        bias_student(contiguous(layer.bias_student)) {}

 private:
  static std::optional<at::Tensor> contiguous(const std::optional<at::Tensor>& bias) {
    return bias ? std::optional(bias->contiguous()) : std::nullopt;
  }
};

template <typename scalar_t>
fsc::device::LayerPointers<scalar_t, 2> pointers_of(const fsc::Layer& layer, const at::Tensor& teacher,
                                                    const at::Tensor& student, const Dense& dense) {
  using real_t = fsc::device::wide_t<scalar_t>;
  fsc::device::LayerPointers<scalar_t, 2> p{
      {teacher.const_data_ptr<scalar_t>(), student.const_data_ptr<scalar_t>()},
      {dense.weight_teacher.const_data_ptr<scalar_t>(), dense.weight_student.const_data_ptr<scalar_t>()},
      {fsc::pointer<scalar_t>(dense.bias_teacher), fsc::pointer<scalar_t>(dense.bias_student)}};
  p.epilogue = {layer.relu(), layer.relu()};
  const double shares[2][2] = {{layer.alpha, 1 - layer.alpha}, {1 - layer.beta, layer.beta}};
  for (int i = 0; i < 4; ++i) p.mix[i / 2][i % 2] = static_cast<real_t>(shares[i / 2][i % 2]);
  return p;
}

std::tuple<at::Tensor, at::Tensor> fused_loss(const fsc::Layer& layer, at::IntArrayRef shape) {
  const fsc::OnDeviceOf guard(layer.input_student);
  const auto [teacher, student] = inputs_of(layer);
  const Dense dense(layer);
  const auto options = student.options();
  const at::Tensor residual = at::empty(shape, options.memory_format(output_format(layer)));
  const at::Tensor loss = at::empty({}, options);
  const auto conv = fsc::convolution_of(layer.conv, student, dense.weight_student, residual);
  FSC_DISPATCH(student.scalar_type(), "cross_distill_layer", [&] {
    using real_t = fsc::device::wide_t<scalar_t>;
    const fsc::LayerPlan<scalar_t> plan(conv, 2);
    const at::Tensor sums = at::empty({plan.sums()}, options.dtype(at::kDouble));
    const at::Tensor parts = at::empty({plan.parts(2)}, options.dtype(c10::CppTypeToScalarType<real_t>::value));
    auto p = pointers_of<scalar_t>(layer, teacher, student, dense);
    p.residual = residual.data_ptr<scalar_t>();
    p.sums = sums.data_ptr<double>();
    p.parts = parts.data_ptr<real_t>();
    fsc::launch_layer(p, conv, plan);
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
  return fuses(layer, shape) ? fused_loss(layer, shape) : convolved_loss(layer);
}

std::optional<at::Tensor> fsc::own_weight_gradient(const Layer& layer, const at::Tensor& residual,
                                                   const at::Tensor& grad_loss) {
  if (!fuses_gradient(layer, residual.sizes())) return {};
  const OnDeviceOf guard(residual);
  const auto [teacher, student] = inputs_of(layer);
  const auto conv = convolution_of(layer.conv, student, layer.weight_student, residual);
  const bool taps_last = layer.weight_student.is_contiguous();
  const auto format = taps_last ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
  at::Tensor gradient = at::empty(layer.weight_student.sizes(), student.options().memory_format(format));
  FSC_DISPATCH(student.scalar_type(), "cross_distill_layer_backward", [&] {
    using real_t = device::wide_t<scalar_t>;
    const GradientPlan<scalar_t> plan(conv);
    const at::Tensor parts = at::empty({plan.deal.splits, gradient.numel()},
                                       student.options().dtype(c10::CppTypeToScalarType<real_t>::value));
    const auto launch = [&](auto p) {
      p.residual = residual.const_data_ptr<scalar_t>();
      p.parts = parts.data_ptr<real_t>();
      launch_weight_gradient(p, conv, plan, {2 * layer.per_image(), grad_loss.const_data_ptr<scalar_t>(), taps_last},
                             gradient.data_ptr<scalar_t>());
    };
    const scalar_t *t = teacher.const_data_ptr<scalar_t>(), *s = student.const_data_ptr<scalar_t>();
    if (layer.beta == 0 || layer.beta == 1) {
      launch(device::GradientPointers<scalar_t, 1>{{layer.beta == 1 ? s : t}});
    } else {
      const real_t share = static_cast<real_t>(1 - layer.beta), own = static_cast<real_t>(layer.beta);
      launch(device::GradientPointers<scalar_t, 2>{{t, s}, nullptr, nullptr, {share, own}});
    }
  });
  return gradient;
}

FSC_LAUNCH_PLAIN_GRADIENTS()

FSC_CUDA_OPERATORS(m) {
  m.impl("soft_cross_mix", fsc::soft_cross_mix);
  m.impl("distill_residual", fsc::distill_residual);
  m.impl("cross_distill_layer", fsc::cross_distill_layer);
  m.impl("cross_distill_layer_backward", fsc::cross_distill_layer_backward);
}
