// The schedule of a loop on the device, so that every step can be the same launches.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "cuda/launch.cuh"
#include "cuda/solve_kernels.cuh"
#include "solve.h"

namespace fsc {

// A loop's steps as ScheduledStep, [T, 3] float64, written without waiting for the device.
inline at::Tensor steps_on_device(const Loop& loop) {
  const int64_t num_steps = loop.num_steps();
  const auto options = loop.weight.options().dtype(at::kDouble).memory_format(std::nullopt);
  const at::Tensor steps = at::empty({num_steps, 3}, options);
  auto* to = reinterpret_cast<device::ScheduledStep*>(steps.data_ptr<double>());
  for (int64_t begin = 0; begin < num_steps; begin += device::kPartSteps) {
    const int64_t count = std::min<int64_t>(num_steps - begin, device::kPartSteps);
    device::PartOfSchedule part{};
    for (int64_t t = 0; t < count; ++t) {
      const double rate = loop.learning_rates.const_data_ptr<double>()[begin + t];
      const Update update(loop.optimizer, rate, loop.first_step + begin + t);
      part.steps[t] = {update.rate, update.root, loop.amounts.const_data_ptr<double>()[begin + t]};
    }
    launch<false>(grid_over(count, device::kPassThreads), device::write_schedule_kernel, part, count, to + begin);
  }
  return steps;
}

// The memory of the schedule and of what a loop has done of it.
struct Schedule {
  at::Tensor steps;   // [T, 3] float64
  at::Tensor losses;  // [T] float64
  at::Tensor now;     // [3] float64
  at::Tensor done;    // [1] int64

  explicit Schedule(const Loop& loop)
      : steps(steps_on_device(loop)),
        losses(at::empty({loop.num_steps()}, steps.options())),
        now(at::empty({3}, steps.options())),
        done(at::zeros({1}, steps.options().dtype(at::kLong))) {}

  device::ScheduledStep* step_under_way() const {
    return reinterpret_cast<device::ScheduledStep*>(now.data_ptr<double>());
  }

  // The next step becomes the one under way; its loss is scale times the sum of `sums`.
  void launch_begin(const at::Tensor& sums, int64_t count, double scale) const {
    constexpr int64_t scratch = device::kMixThreads / device::kWarp * sizeof(double);
    const device::Progress progress{reinterpret_cast<const device::ScheduledStep*>(steps.const_data_ptr<double>()),
                                    losses.data_ptr<double>(), step_under_way(), done.data_ptr<int64_t>()};
    launch<true>({1, device::kMixThreads, scratch}, device::begin_step_kernel, sums.const_data_ptr<double>(), count,
                 scale, progress);
  }
};

}  // namespace fsc
