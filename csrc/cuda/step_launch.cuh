// One step with its proximal operator as launches on raw memory: without penalty and with l1 a single one.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "cuda/launch.cuh"
#include "cuda/prox_launch.cuh"
#include "cuda/step_kernels.cuh"
#include "step.h"

namespace fsc {

// A weight with what a step changes beside it, and the memory that its penalty needs, allocated once for all steps.
template <typename scalar_t>
struct StepMemory {
  device::StepPointers<scalar_t> p;
  uint8_t* mask;
  Groups groups;
  at::Tensor norms;      // [groups] float64
  at::Tensor threshold;  // [1] float64
  at::Tensor keep;       // [groups] uint8

  void allocate(const at::Tensor& weight, const Penalty& penalty) {
    const auto options = weight.options().memory_format(std::nullopt);
    if (penalty.groups) norms = at::empty({groups.count}, options.dtype(at::kDouble));
    if (penalty.groups) keep = at::empty({groups.count}, options.dtype(at::kByte));
    if (penalty.rule == Penalty::Rule::kKeepShrunk) threshold = at::empty({1}, options.dtype(at::kDouble));
  }
};

// The scalars of one step: as the host knows them, or in a loop those at `found` on the device.
inline device::StepScalars scalars_of(const Update& update, const Penalty& penalty, double amount,
                                      const device::ScheduledStep* found = nullptr) {
  const bool shrink = penalty.rule == Penalty::Rule::kShrink && !penalty.groups;
  return {update.decay, update.decay_square, update.eps, shrink, {update.rate, update.root, amount}, found};
}

template <typename scalar_t>
void launch_update(const StepMemory<scalar_t>& memory, bool adam, const device::StepScalars& scalars) {
  const auto& p = memory.p;
  const int64_t numel = numel_of(memory.groups);
  constexpr int width = kVectorWidth<scalar_t>;
  const bool wide = aligned(p.weight, p.grad, p.first, p.second);
  const Grid grid = grid_over(ceil_div(numel, wide ? width : 1), device::kPassThreads);
  if (adam) {
    launch<false>(grid, wide ? device::adam_kernel<scalar_t, width> : device::adam_kernel<scalar_t, 1>, p, numel,
                  scalars);
  } else {
    launch<false>(grid, wide ? device::sgd_kernel<scalar_t, width> : device::sgd_kernel<scalar_t, 1>, p, numel,
                  scalars);
  }
}

// Soft threshold by the largest that goes.
template <typename scalar_t>
void launch_keep_shrunk(const StepMemory<scalar_t>& memory, bool groups, const device::Amount& stay) {
  scalar_t* weight = memory.p.weight;
  const int64_t numel = numel_of(memory.groups);
  double* found = memory.threshold.template data_ptr<double>();
  if (groups) {
    double* norms = memory.norms.template data_ptr<double>();
    launch_largest_gone(norms, memory.groups.count, stay, found);
    launch_shrink_groups(weight, weight, norms, memory.groups, {0, found});
  } else {
    launch_largest_gone(weight, numel, stay, found);
    launch_soft_threshold(weight, weight, numel, {0, found});
  }
}

template <typename scalar_t>
void launch_keep(const StepMemory<scalar_t>& memory, bool groups, const device::Amount& stay) {
  uint8_t* keep = groups ? memory.keep.template data_ptr<uint8_t>() : nullptr;
  if (groups) {
    launch_mark_largest(memory.norms.template const_data_ptr<double>(), memory.groups.count, stay, keep);
  } else {
    launch_mark_largest(memory.p.weight, numel_of(memory.groups), stay, memory.mask);
  }
  launch<false>(grid_over(numel_of(memory.groups), device::kPassThreads), device::clear_step_kernel<scalar_t>, memory.p,
                memory.mask, keep, memory.groups);
}

template <typename scalar_t>
void launch_step(const StepMemory<scalar_t>& memory, bool adam, const Penalty& penalty,
                 const device::StepScalars& scalars) {
  using Rule = Penalty::Rule;
  launch_update(memory, adam, scalars);
  if (penalty.rule == Rule::kNone || scalars.shrink) return;
  const device::Amount amount{scalars.value.amount, scalars.found ? &scalars.found->amount : nullptr};
  if (penalty.groups) {
    double* norms = memory.norms.template data_ptr<double>();
    launch_group_norms(memory.p.weight, norms, memory.groups);
    if (penalty.rule == Rule::kShrink) {
      return launch_shrink_groups(memory.p.weight, memory.p.weight, norms, memory.groups, amount);
    }
  }
  penalty.rule == Rule::kKeep ? launch_keep(memory, penalty.groups, amount)
                              : launch_keep_shrunk(memory, penalty.groups, amount);
}

}  // namespace fsc
