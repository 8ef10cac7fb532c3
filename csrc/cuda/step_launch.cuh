// Steps with their proximal operators as launches on raw memory: without penalty and with l1 a single one for as many
// weights as a table holds.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "cuda/launch.cuh"
#include "cuda/prox_launch.cuh"
#include "cuda/step_kernels.cuh"
#include "cuda/table_launch.cuh"
#include "step.h"

namespace fsc {

// A weight with what a step changes beside it, and the memory that its penalty needs, allocated once for all steps.
template <typename scalar_t>
struct StepMemory {
  device::StepPointers<scalar_t> p;
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

template <typename scalar_t>
device::StepRow<scalar_t> row_of(const StepMemory<scalar_t>& memory, double threshold) {
  const auto& p = memory.p;
  return {p, numel_of(memory.groups), threshold, aligned(p.weight, p.grad, p.first, p.second)};
}

inline device::StepFormula formula_of(const Optimizer& optimizer, const Penalty& penalty) {
  return {optimizer.adam ? optimizer.beta1 : optimizer.momentum, optimizer.beta2, optimizer.eps,
          penalty.shrinks_in_update()};
}

// The updates of all rows, in launches of up to `capacity` of them.
template <int capacity, typename scalar_t>
void launch_updates(c10::ArrayRef<device::StepRow<scalar_t>> rows, bool adam, const device::StepScalars& scalars) {
  const auto blocks_of = [](const device::StepRow<scalar_t>& row) {
    const int64_t visits = ceil_div(row.numel, row.wide ? kVectorWidth<scalar_t> : 1);
    return std::min(ceil_div(visits, device::kPassThreads), kMostBlocks);
  };
  const auto kernel = adam ? device::adam_kernel<scalar_t, capacity> : device::sgd_kernel<scalar_t, capacity>;
  launch_tables<capacity>(rows, blocks_of, [&](const device::StepTable<scalar_t, capacity>& table, int64_t blocks) {
    launch<false>({blocks, device::kPassThreads}, kernel, table, scalars);
  });
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
    launch_mark_largest(memory.p.weight, numel_of(memory.groups), stay, memory.p.mask);
  }
  launch<false>(grid_over(numel_of(memory.groups), device::kPassThreads), device::clear_step_kernel<scalar_t>, memory.p,
                keep, memory.groups);
}

// What follows the update of a weight, where the update itself does not do it.
template <typename scalar_t>
void launch_penalty(const StepMemory<scalar_t>& memory, const Penalty& penalty, const device::Amount& amount) {
  if (penalty.is_in_update()) return;
  if (penalty.groups) {
    double* norms = memory.norms.template data_ptr<double>();
    launch_group_norms(memory.p.weight, norms, memory.groups);
    if (penalty.rule == Penalty::Rule::kShrink) {
      return launch_shrink_groups(memory.p.weight, memory.p.weight, norms, memory.groups, amount);
    }
  }
  penalty.rule == Penalty::Rule::kKeep ? launch_keep(memory, penalty.groups, amount)
                                       : launch_keep_shrunk(memory, penalty.groups, amount);
}

// A step of a loop, whose scalars lie on the device.
template <typename scalar_t>
void launch_step(const StepMemory<scalar_t>& memory, bool adam, const Penalty& penalty,
                 const device::StepScalars& scalars) {
  const device::StepRow<scalar_t> row = row_of(memory, 0);
  launch_updates<1, scalar_t>(row, adam, scalars);
  launch_penalty(memory, penalty, {0, &scalars.on_device->amount});
}

}  // namespace fsc
