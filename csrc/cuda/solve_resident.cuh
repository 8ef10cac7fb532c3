// Loops that run all their steps in one launch: where they fit, and how they are launched.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "cuda/launch.cuh"
#include "cuda/solve_resident_kernels.cuh"
#include "cuda/solve_schedule.cuh"
#include "solve.h"
#include "version_counter.h"

namespace fsc {

// Whether the steps of single weights need to know of no others, and there are any.
inline bool steps_stand_alone(const Loop& loop) {
  using Rule = Penalty::Rule;
  const bool apart = loop.penalty.rule == Rule::kNone || (loop.penalty.rule == Rule::kShrink && !loop.penalty.groups);
  return apart && loop.num_steps() > 0 && loop.weight.numel() > 0;
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

  device::ManySteps many(double scale) const {
    const Optimizer& optimizer = loop.optimizer;
    return {reinterpret_cast<const device::ScheduledStep*>(steps.const_data_ptr<double>()),
            sums.data_ptr<double>(),
            loop.num_steps(),
            2 * scale,
            optimizer.adam,
            !optimizer.adam && optimizer.num_states() > 0,
            loop.penalty.rule == Penalty::Rule::kShrink,
            optimizer.adam ? optimizer.beta1 : optimizer.momentum,
            optimizer.beta2,
            optimizer.eps};
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

// ---- on moments ----

// Columns of the Hessian that a block may hold where it cannot hold all, the best first: few enough that many blocks
// share the work, enough that the tiles of a product are full.
constexpr int64_t kSlabWidths[] = {32, 64, 128, 16};

// How the weight is cut into rows of 16 and slabs of columns.
template <typename scalar_t>
struct MomentsPlan {
  int64_t rows, columns, groups;
  int64_t slab = 0;  // none: the steps do not fit into one launch
  int64_t slabs = 0;
  int parts = 0;
  Grid grid{};

  MomentsPlan(const Loop& loop, int64_t all_rows, int64_t all_columns)
      : rows(all_rows), columns(all_columns), groups(ceil_div(rows, device::kWarpRows)) {
    if (!steps_stand_alone(loop) || columns > kMostBlocks || rows > kMostBlocks) return;
    if (cut(ceil_div(columns, device::kMomentColumns) * device::kMomentColumns)) return;
    for (const int64_t width : kSlabWidths) {
      if (cut(width)) return;
    }
    slab = 0;
  }

  at::Tensor run(const Loop& loop, const at::Tensor& hessian, const at::Tensor& target, double scale) const {
    using real_t = device::wide_t<scalar_t>;
    const ResidentLoop resident(loop, grid.blocks, groups);
    at::Tensor exchange;
    if (slabs > 1) {
      exchange = at::empty({2, rows, columns}, target.options().dtype(c10::CppTypeToScalarType<real_t>::value));
    }
    const device::ResidentMoments<scalar_t> p{loop.weight.data_ptr<scalar_t>(),
                                              resident.template state<scalar_t>(0),
                                              resident.template state<scalar_t>(1),
                                              hessian.const_data_ptr<scalar_t>(),
                                              target.const_data_ptr<scalar_t>(),
                                              slabs > 1 ? exchange.data_ptr<real_t>() : nullptr,
                                              resident.counters(),
                                              resident.many(scale),
                                              static_cast<int>(rows),
                                              static_cast<int>(columns),
                                              static_cast<int>(slab),
                                              static_cast<int>(slabs),
                                              parts};
    const auto kernel = device::resident_moments_kernel<scalar_t>;
    slabs > 1 ? launch_together(grid, kernel, p) : launch<true>(grid, kernel, p);
    return resident.finish(scale);
  }

 private:
  // Blocks that hold all columns wait for no others, so that any number of them will do.
  bool cut(int64_t width) {
    using Memory = device::MomentsMemory<device::wide_t<scalar_t>>;
    slab = width;
    slabs = ceil_div(columns, width);
    parts = device::parts_of(static_cast<int>(width / device::kMomentColumns), static_cast<int>(columns),
                             device::kMomentWarps);
    grid = {groups * slabs, device::kMomentThreads, Memory::bytes(columns, width, parts)};
    if (slabs == 1) return grid.shared_bytes <= most_shared_bytes();
    return fits_together(grid, device::resident_moments_kernel<scalar_t>);
  }
};

}  // namespace fsc
