// What the host has for loops that run all their steps in one launch, and whether it may.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "cuda/launch.cuh"
#include "cuda/solve_resident_kernels.cuh"
#include "cuda/solve_schedule.cuh"
#include "cuda/step_launch.cuh"
#include "solve.h"
#include "version_counter.h"

namespace fsc {

// Whether the steps of single weights need to know of no others, and there are any.
inline bool steps_stand_alone(const Loop& loop) {
  return loop.penalty.is_in_update() && loop.num_steps() > 0 && loop.weight.numel() > 0;
}

// What the steps of a loop have in common, and the memory of their losses.
struct ResidentLoop {
  const Loop& loop;
  at::Tensor steps;     // [T, 3] float64, see ScheduledStep
  at::Tensor sums;      // [T, blocks] float64
  at::Tensor arrivals;  // [row groups] int32

  ResidentLoop(const Loop& all, int64_t blocks, int64_t groups)
      : loop(all),
        steps(steps_on_device(all)),
        sums(at::empty({all.num_steps(), blocks}, steps.options())),
        arrivals(at::zeros({groups}, steps.options().dtype(at::kInt))) {}

  unsigned* counters() const { return reinterpret_cast<unsigned*>(arrivals.data_ptr<int>()); }

  // exp_avg and exp_avg_sq, the momentum's buffer, or null.
  template <typename scalar_t>
  scalar_t* state(size_t i) const {
    return i < loop.state.size() ? loop.state[i].data_ptr<scalar_t>() : nullptr;
  }

  template <typename real_t>
  device::ManySteps<real_t> many(double scale) const {
    const Optimizer& optimizer = loop.optimizer;
    return {reinterpret_cast<const device::ScheduledStep*>(steps.const_data_ptr<double>()),
            sums.data_ptr<double>(),
            loop.num_steps(),
            2 * scale,
            optimizer.adam,
            !optimizer.adam && optimizer.num_states() > 0,
            formula_of<real_t>(optimizer, loop.penalty)};
  }

  // To be called behind the launch; returns the losses, [T] float64.
  at::Tensor finish(double scale) const {
    const at::Tensor losses = at::empty({loop.num_steps()}, steps.options());
    launch<false>(grid_over(loop.num_steps(), device::kLossThreads), device::losses_kernel,
                  sums.const_data_ptr<double>(), loop.num_steps(), sums.size(1), scale, losses.data_ptr<double>());
    mark_changed(loop.weight);
    for (const at::Tensor& part : loop.state) mark_changed(part);
    return losses;
  }
};

}  // namespace fsc
