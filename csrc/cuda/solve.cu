// The loops of an optimiser with a proximal operator behind every step, on CUDA devices: one launch for all steps
// where a layer fits into shared memory, a graph of some steps replayed elsewhere, with all memory allocated before the
// first step and no wait for the device.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

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
  const fsc::device::StepScalars scalars{fsc::formula_of(loop.optimizer, loop.penalty), 0, 0,
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

// The memory of the steps on images, for batches of at most `size` images.
template <typename scalar_t>
struct ImagesMemory {
  using real_t = fsc::device::wide_t<scalar_t>;
  at::Tensor residual;  // [size, C_out, H_out, W_out]
  at::Tensor sums;      // [blocks] float64
  at::Tensor parts;     // [splits, C_out, C_in kH kW]

  ImagesMemory(const fsc::Images& all, const at::Tensor& weight, int64_t size)
      : residual(at::empty_like(all.target.narrow(0, 0, size))) {
    const auto c = fsc::convolution_of(all.conv, all.input.narrow(0, 0, size), weight, residual);
    const Grid grid = fsc::output_grid<fsc::device::StoredMemory<real_t>>(c);
    const auto options = weight.options().memory_format(std::nullopt);
    sums = at::empty({grid.blocks * grid.blocks_y}, options.dtype(at::kDouble));
    parts = at::empty({fsc::GradientPlan(c).splits, weight.numel()},
                      options.dtype(c10::CppTypeToScalarType<real_t>::value));
  }
};

// Begins a step on a batch, and launches the gradient of its weight.
template <typename scalar_t>
void launch_images(const fsc::Images& batch, const at::Tensor& weight, const ImagesMemory<scalar_t>& memory,
                   double per_image, const Schedule& schedule, scalar_t* gradient) {
  using real_t = fsc::device::wide_t<scalar_t>;
  const at::Tensor residual = memory.residual.narrow(0, 0, batch.input.size(0));
  const auto c = fsc::convolution_of(batch.conv, batch.input, weight, residual);
  const Grid grid = fsc::output_grid<fsc::device::StoredMemory<real_t>>(c);
  const fsc::device::StoredPointers<scalar_t> p{batch.input.const_data_ptr<scalar_t>(),
                                                batch.target.const_data_ptr<scalar_t>(),
                                                fsc::pointer<scalar_t>(batch.shortcut),
                                                fsc::pointer<scalar_t>(batch.image_weight),
                                                weight.const_data_ptr<scalar_t>(),
                                                fsc::pointer<scalar_t>(batch.bias),
                                                residual.data_ptr<scalar_t>(),
                                                memory.sums.template data_ptr<double>(),
                                                batch.relu};
  fsc::launch<true>(grid, fsc::device::stored_kernel<scalar_t>, p, c);
  schedule.launch_begin(memory.sums, grid.blocks * grid.blocks_y, per_image);
  fsc::launch_weight_gradient<scalar_t>({nullptr, p.input, p.residual, memory.parts.template data_ptr<real_t>(), 0, 0},
                                        c, fsc::GradientPlan(c), 2 * per_image, nullptr, gradient);
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
    using Memory = device::StoredMemory<device::wide_t<scalar_t>>;
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
  const int64_t images = all.input.size(0);
  Images shared = all;
  if (shared.bias) shared.bias = shared.bias->contiguous();
  return FSC_DISPATCH(loop.weight.scalar_type(), "solve_relu_", [&] {
    if (const ImagesPlan<scalar_t> plan(loop, shared, batch_size); plan.fits) {
      return plan.run(loop, shared, scale);
    }
    const ImagesMemory<scalar_t> memory(shared, loop.weight, batch_size);
    const int64_t batches = std::max<int64_t>(ceil_div(images, std::max<int64_t>(batch_size, 1)), 1);
    return run<scalar_t>(loop, batches, [&](const Schedule& schedule, int64_t number, scalar_t* gradient) {
      const int64_t begin = (number - 1) % batches * batch_size;
      const Images batch = shared.batch(begin, std::min(batch_size, images - begin));
      const double per_image = scale / static_cast<double>(batch.input.size(0));
      launch_images(batch, loop.weight, memory, per_image, schedule, gradient);
    });
  });
}

FSC_CUDA_OPERATORS(m) {
  m.impl("solve_quadratic_", fsc::solve_quadratic_);
  m.impl("solve_relu_", fsc::solve_relu_);
}
