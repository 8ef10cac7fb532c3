// The loops of an optimiser with a proximal operator behind every step, on CUDA devices: one launch for all steps
// where a layer fits into shared memory, a graph of some steps replayed elsewhere, with all memory allocated before the
// first step and no wait for the device.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <initializer_list>
#include <vector>

#include "cuda/convolution_launch.cuh"
#include "cuda/dispatch.cuh"
#include "cuda/replay.cuh"
#include "cuda/solve_resident_images.cuh"
#include "cuda/solve_resident_moments.cuh"
#include "cuda/solve_schedule.cuh"
#include "cuda/step_launch.cuh"
#include "solve_operators.h"
#include "version_counter.h"

namespace {

using fsc::Grid;
using fsc::Loop;
using fsc::Schedule;
using fsc::device::kTile;

// Steps that a graph holds at least, so that launching it does not take longer than running it.
constexpr int64_t kGraphSteps = 16;
// And at most: beyond, recording takes longer than it saves.
constexpr int64_t kMostGraphSteps = 512;

// Runs the steps; `differentiate(schedule, number, gradient)` launches what writes the gradient at the weight and
// begins the step. What it launches depends on the number modulo `cycle` only.
template <typename scalar_t, typename Differentiate>
at::Tensor run(const Loop& loop, int64_t cycle, const Differentiate& differentiate) {
  const at::Tensor grad = at::empty_like(loop.weight);
  auto* mask = loop.mask ? reinterpret_cast<uint8_t*>(loop.mask->data_ptr<bool>()) : nullptr;
  const auto state = [&](size_t i) { return i < loop.state.size() ? loop.state[i].data_ptr<scalar_t>() : nullptr; };
  fsc::StepMemory<scalar_t> memory{
      {loop.weight.data_ptr<scalar_t>(), grad.const_data_ptr<scalar_t>(), state(0), state(1), mask},
      fsc::groups_of(loop.weight, fsc::check_dim(loop.op, loop.dim, loop.weight))};
  memory.allocate(loop.weight, loop.penalty);
  const Schedule schedule(loop);
  using real_t = fsc::device::wide_t<scalar_t>;
  const fsc::device::StepScalars<real_t> scalars{fsc::formula_of<real_t>(loop.optimizer, loop.penalty), 0, 0,
                                                 schedule.step_under_way()};
  const auto launch_steps = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      differentiate(schedule, loop.first_step + t, grad.data_ptr<scalar_t>());
      fsc::launch_step(memory, loop.optimizer.adam, loop.penalty, scalars);
    }
  };
  const int64_t steps_at_once = fsc::ceil_div(kGraphSteps, cycle) * cycle;
  const int64_t times = steps_at_once <= kMostGraphSteps ? loop.num_steps() / steps_at_once : 0;
  fsc::replay(times, [&] { launch_steps(0, steps_at_once); });
  launch_steps(times * steps_at_once, loop.num_steps());
  fsc::mark_changed(loop.weight);
  for (const at::Tensor& part : loop.state) fsc::mark_changed(part);
  if (loop.mask) fsc::mark_changed(*loop.mask);
  return schedule.losses;
}

// The memory of the steps on images, for batches of the sizes given.
template <typename scalar_t>
struct ImagesMemory {
  using real_t = fsc::device::wide_t<scalar_t>;
  at::Tensor residual;     // [size, C_out, H_out, W_out]
  at::Tensor sums;         // [partial losses] float64
  at::Tensor layer_parts;  // of a layer's outputs, where its products are split
  at::Tensor parts;        // [splits, C_out, kH kW C_in]
  at::Tensor ordered;      // [C_out, kH, kW, C_in] where the weight's own order is another

  ImagesMemory(const fsc::Images& all, const at::Tensor& weight, std::initializer_list<int64_t> sizes)
      : residual(at::empty_like(all.target.narrow(0, 0, std::max(sizes)))) {
    int64_t losses = 0, of_layer = 0, splits = 0;
    for (const int64_t size : sizes) {
      const auto c = fsc::convolution_of(all.conv, all.input.narrow(0, 0, size), weight, residual.narrow(0, 0, size));
      const fsc::LayerPlan<scalar_t> plan(c, 1);
      losses = std::max(losses, plan.sums());
      of_layer = std::max(of_layer, plan.parts(1));
      splits = std::max<int64_t>(splits, fsc::GradientPlan<scalar_t>(c).deal.splits);
    }
    const auto options = weight.options().memory_format(std::nullopt);
    const auto wide = options.dtype(c10::CppTypeToScalarType<real_t>::value);
    sums = at::empty({losses}, options.dtype(at::kDouble));
    layer_parts = at::empty({of_layer}, wide);
    parts = at::empty({splits, weight.numel()}, wide);
    if (!weight.is_contiguous(at::MemoryFormat::ChannelsLast)) ordered = at::empty({weight.numel()}, options);
  }

  // The weight as the kernels read it.
  const scalar_t* order(const at::Tensor& weight, const fsc::device::Convolution& c) const {
    if (!ordered.defined()) return weight.const_data_ptr<scalar_t>();
    fsc::launch<false>(fsc::grid_over(weight.numel(), fsc::device::kMixThreads),
                       fsc::device::taps_first_kernel<scalar_t>, weight.const_data_ptr<scalar_t>(), c,
                       fsc::divisor_of(c.rows), c.kernel_height * c.kernel_width, ordered.data_ptr<scalar_t>());
    return ordered.const_data_ptr<scalar_t>();
  }
};

// Begins a step on a batch, and launches the gradient of its weight [C_out, C_in, kH, kW], in the weight's order.
template <typename scalar_t>
void launch_images(const fsc::Images& batch, const at::Tensor& weight, const ImagesMemory<scalar_t>& memory,
                   double per_image, const Schedule& schedule, scalar_t* gradient) {
  using real_t = fsc::device::wide_t<scalar_t>;
  const at::Tensor residual = memory.residual.narrow(0, 0, batch.input.size(0));
  const auto c = fsc::convolution_of(batch.conv, batch.input, weight, residual);
  const fsc::LayerPlan<scalar_t> plan(c, 1);
  fsc::device::LayerPointers<scalar_t, 1> p{
      {batch.input.const_data_ptr<scalar_t>()}, {memory.order(weight, c)}, {fsc::pointer<scalar_t>(batch.bias)}};
  p.residual = residual.data_ptr<scalar_t>();
  p.sums = memory.sums.template data_ptr<double>();
  p.parts = memory.layer_parts.template data_ptr<real_t>();
  p.epilogue = {batch.relu, false};
  p.target = batch.target.const_data_ptr<scalar_t>();
  p.shortcut = fsc::pointer<scalar_t>(batch.shortcut);
  p.share = fsc::pointer<scalar_t>(batch.image_weight);
  fsc::launch_layer(p, c, plan);
  schedule.launch_begin(memory.sums, plan.sums(), per_image);
  const fsc::device::GradientPointers<scalar_t, 1> back{
      {p.input[0]}, p.residual, memory.parts.template data_ptr<real_t>()};
  fsc::launch_weight_gradient(back, c, fsc::GradientPlan<scalar_t>(c),
                              fsc::GradientScale<scalar_t>{2 * per_image, nullptr, memory.ordered.defined()}, gradient);
}

// A loop whose weight, state and mask lie as [C_out, kH, kW, C_in], the order in which the kernels read a weight.
class TapsFirst {
 public:
  explicit TapsFirst(const Loop& loop) : outer_(loop), weight_(ordered(loop.weight)) {
    for (const at::Tensor& part : loop.state) state_.push_back(ordered(part));
    if (loop.mask) mask_ = ordered(*loop.mask);
  }

  // Single weights of the same size stay or go by their place, so that is kept.
  static bool suits(const Loop& loop) { return loop.penalty.rule != fsc::Penalty::Rule::kKeep || loop.penalty.groups; }

  Loop loop() const {
    constexpr int64_t moved[] = {0, 3, 1, 2};
    return {outer_.op,
            weight_,
            state_,
            mask_,
            outer_.learning_rates,
            outer_.amounts,
            outer_.optimizer,
            outer_.penalty,
            moved[fsc::check_dim(outer_.op, outer_.dim, outer_.weight)],
            outer_.first_step};
  }

  // [C_out, C_in, kH, kW], the same memory.
  at::Tensor weight() const { return weight_.permute({0, 3, 1, 2}); }

  void write_back() const {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const auto back = [](const at::Tensor& to, const at::Tensor& from) {
      to.copy_(from.permute({0, 3, 1, 2}));
      fsc::mark_changed(to);
    };
    back(outer_.weight, weight_);
    for (size_t i = 0; i < state_.size(); ++i) back(outer_.state[i], state_[i]);
    if (mask_) back(*outer_.mask, *mask_);
  }

 private:
  static at::Tensor ordered(const at::Tensor& tensor) {
    return at::empty({tensor.size(0), tensor.size(2), tensor.size(3), tensor.size(1)}, tensor.options())
        .copy_(tensor.detach().permute({0, 2, 3, 1}));
  }

  const Loop& outer_;
  at::Tensor weight_;
  std::vector<at::Tensor> state_;
  std::optional<at::Tensor> mask_;
};

// The loop on images by launches; `weight` is [C_out, C_in, kH, kW] in the memory of the loop's.
template <typename scalar_t>
at::Tensor run_launches(const Loop& loop, const at::Tensor& weight, const fsc::Images& all, int64_t batch_size,
                        double scale) {
  const int64_t images = all.input.size(0), most = std::max<int64_t>(batch_size, 1);
  const int64_t batches = std::max<int64_t>(fsc::ceil_div(images, most), 1);
  const ImagesMemory<scalar_t> memory(all, weight, {batch_size, images - (batches - 1) * batch_size});
  return run<scalar_t>(loop, batches, [&](const Schedule& schedule, int64_t number, scalar_t* gradient) {
    const int64_t begin = (number - 1) % batches * batch_size;
    const fsc::Images batch = all.batch(begin, std::min(batch_size, images - begin));
    const double per_image = scale / static_cast<double>(batch.input.size(0));
    launch_images(batch, weight, memory, per_image, schedule, gradient);
  });
}

}  // namespace

at::Tensor fsc::run_quadratic(const Loop& loop, const at::Tensor& hessian, const at::Tensor& target, double scale) {
  const OnDeviceOf guard(loop.weight);
  const int64_t rows = target.size(0), columns = target.size(1);
  const at::Tensor matrix = hessian.contiguous();
  return FSC_DISPATCH(loop.weight.scalar_type(), "solve_quadratic_", [&] {
    if (const MomentsPlan<scalar_t> plan(loop, rows, columns); plan.slab > 0) {
      return plan.run(loop, matrix, target, scale);
    }
    using Memory = device::TwoSlabs<device::wide_t<scalar_t>>;
    const Grid grid{ceil_div(columns, kTile), device::kTileThreads, sizeof(Memory), ceil_div(rows, kTile)};
    const at::Tensor sums = at::empty({grid.blocks * grid.blocks_y}, loop.weight.options().dtype(at::kDouble));
    return run<scalar_t>(loop, 1, [&](const Schedule& schedule, int64_t, scalar_t* gradient) {
      const device::QuadraticPointers<scalar_t> p{loop.weight.const_data_ptr<scalar_t>(),
                                                  matrix.const_data_ptr<scalar_t>(),
                                                  target.const_data_ptr<scalar_t>(),
                                                  gradient,
                                                  sums.data_ptr<double>(),
                                                  rows,
                                                  columns,
                                                  2 * scale};
      launch<true>(grid, device::quadratic_kernel<scalar_t>, p);
      schedule.launch_begin(sums, sums.numel(), scale);
    });
  });
}

at::Tensor fsc::run_images(const Loop& loop, const Images& all, int64_t batch_size, double scale) {
  const OnDeviceOf guard(loop.weight);
  Images shared = all;
  if (shared.bias) shared.bias = shared.bias->contiguous();
  return FSC_DISPATCH(loop.weight.scalar_type(), "solve_relu_", [&] {
    if (const ImagesPlan<scalar_t> plan(loop, shared, batch_size); plan.fits) {
      return plan.run(loop, shared, scale);
    }
    if (loop.weight.is_contiguous(at::MemoryFormat::ChannelsLast) || !TapsFirst::suits(loop)) {
      return run_launches<scalar_t>(loop, loop.weight, shared, batch_size, scale);
    }
    const TapsFirst ordered(loop);
    const at::Tensor losses = run_launches<scalar_t>(ordered.loop(), ordered.weight(), shared, batch_size, scale);
    ordered.write_back();
    return losses;
  });
}

FSC_CUDA_OPERATORS(m) {
  m.impl("solve_quadratic_", fsc::solve_quadratic_);
  m.impl("solve_relu_", fsc::solve_relu_);
}
