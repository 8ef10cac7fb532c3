// The loops of an optimiser with a proximal operator behind every step, on CUDA devices: one launch for all steps
// where a layer fits into shared memory, launches on one stream elsewhere, with all memory allocated before the first
// step and no wait for the device.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "cuda/convolution_launch.cuh"
#include "cuda/dispatch.cuh"
#include "cuda/solve_kernels.cuh"
#include "cuda/solve_resident.cuh"
#include "cuda/solve_resident_images.cuh"
#include "cuda/step_launch.cuh"
#include "solve_operators.h"
#include "version_counter.h"

namespace {

using fsc::Grid;
using fsc::Loop;
using fsc::device::kMixThreads;
using fsc::device::kTile;
constexpr int64_t kScratch = kMixThreads / fsc::device::kWarp * sizeof(double);

// Runs the steps; `differentiate(number, gradient, loss)` launches what writes the gradient at the weight, and the loss
// to one double on the device.
template <typename scalar_t, typename Differentiate>
at::Tensor run(const Loop& loop, const Differentiate& differentiate) {
  const at::Tensor grad = at::empty_like(loop.weight);
  const at::Tensor losses = at::empty({loop.num_steps()}, loop.weight.options().dtype(at::kDouble));
  auto* mask = loop.mask ? reinterpret_cast<uint8_t*>(loop.mask->data_ptr<bool>()) : nullptr;
  const auto state = [&](size_t i) { return i < loop.state.size() ? loop.state[i].data_ptr<scalar_t>() : nullptr; };
  fsc::StepMemory<scalar_t> memory{
      {loop.weight.data_ptr<scalar_t>(), grad.const_data_ptr<scalar_t>(), state(0), state(1), mask},
      mask,
      fsc::groups_of(loop.weight, fsc::check_dim(loop.op, loop.dim, loop.weight))};
  memory.allocate(loop.weight, loop.penalty);
  const double* rates = loop.learning_rates.const_data_ptr<double>();
  const double* amounts = loop.amounts.const_data_ptr<double>();
  for (int64_t t = 0; t < loop.num_steps(); ++t) {
    const int64_t number = loop.first_step + t;
    differentiate(number, grad.data_ptr<scalar_t>(), losses.data_ptr<double>() + t);
    fsc::launch_step(memory, {loop.optimizer, rates[t], number}, loop.penalty, amounts[t]);
  }
  fsc::mark_changed(loop.weight);
  for (const at::Tensor& part : loop.state) fsc::mark_changed(part);
  if (loop.mask) fsc::mark_changed(*loop.mask);
  return losses;
}

void launch_total(const at::Tensor& sums, int64_t count, double scale, double* loss) {
  fsc::launch<true>({1, kMixThreads, kScratch}, fsc::device::total_kernel<double>, sums.const_data_ptr<double>(), count,
                    scale, loss);
}

// What changes from step to step, on the device: StepOfMany as [T, 3] float64.
at::Tensor steps_on_device(const Loop& loop) {
  const at::Tensor steps = at::empty({loop.num_steps(), 3}, loop.learning_rates.options());
  auto* values = reinterpret_cast<fsc::device::StepOfMany*>(steps.data_ptr<double>());
  for (int64_t t = 0; t < loop.num_steps(); ++t) {
    const fsc::Update update(loop.optimizer, loop.learning_rates.const_data_ptr<double>()[t], loop.first_step + t);
    values[t] = {update.rate, update.root, loop.amounts.const_data_ptr<double>()[t]};
  }
  return steps.to(loop.weight.device());
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

// Launches the loss of a batch and the gradient of its weight.
template <typename scalar_t>
void launch_images(const fsc::Images& batch, const at::Tensor& weight, const ImagesMemory<scalar_t>& memory,
                   double per_image, scalar_t* gradient, double* loss) {
  using real_t = fsc::device::wide_t<scalar_t>;
  const auto pointer = [](const std::optional<at::Tensor>& tensor) {
    return tensor ? tensor->const_data_ptr<scalar_t>() : nullptr;
  };
  const at::Tensor residual = memory.residual.narrow(0, 0, batch.input.size(0));
  const auto c = fsc::convolution_of(batch.conv, batch.input, weight, residual);
  const Grid grid = fsc::output_grid<fsc::device::StoredMemory<real_t>>(c);
  const fsc::device::StoredPointers<scalar_t> p{batch.input.const_data_ptr<scalar_t>(),
                                                batch.target.const_data_ptr<scalar_t>(),
                                                pointer(batch.shortcut),
                                                pointer(batch.image_weight),
                                                weight.const_data_ptr<scalar_t>(),
                                                pointer(batch.bias),
                                                residual.data_ptr<scalar_t>(),
                                                memory.sums.template data_ptr<double>(),
                                                batch.relu};
  fsc::launch<true>(grid, fsc::device::stored_kernel<scalar_t>, p, c);
  launch_total(memory.sums, grid.blocks * grid.blocks_y, per_image, loss);
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
      return plan.run({loop, steps_on_device(loop), plan.grid.blocks, plan.groups}, matrix, target, scale);
    }
    using Memory = device::StoredMemory<device::wide_t<scalar_t>>;
    const Grid grid{ceil_div(columns, kTile), device::kTileThreads, sizeof(Memory), ceil_div(rows, kTile)};
    const at::Tensor sums = at::empty({grid.blocks * grid.blocks_y}, loop.weight.options().dtype(at::kDouble));
    return run<scalar_t>(loop, [&](int64_t, scalar_t* gradient, double* loss) {
      const device::QuadraticPointers<scalar_t> p{loop.weight.const_data_ptr<scalar_t>(),
                                                  matrix.const_data_ptr<scalar_t>(),
                                                  target.const_data_ptr<scalar_t>(),
                                                  gradient,
                                                  sums.data_ptr<double>(),
                                                  rows,
                                                  columns,
                                                  2 * scale};
      launch<true>(grid, device::quadratic_kernel<scalar_t>, p);
      launch_total(sums, sums.numel(), scale, loss);
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
      return plan.run({loop, steps_on_device(loop), plan.grid.blocks, plan.groups}, shared, scale);
    }
    const ImagesMemory<scalar_t> memory(shared, loop.weight, batch_size);
    return run<scalar_t>(loop, [&](int64_t number, scalar_t* gradient, double* loss) {
      const int64_t begin = (number - 1) % ceil_div(images, batch_size) * batch_size;
      const Images batch = shared.batch(begin, std::min(batch_size, images - begin));
      launch_images(batch, loop.weight, memory, scale / static_cast<double>(batch.input.size(0)), gradient, loss);
    });
  });
}

FSC_CUDA_OPERATORS(m) {
  m.impl("solve_quadratic_", fsc::solve_quadratic_);
  m.impl("solve_relu_", fsc::solve_relu_);
}
