// Steps with their proximal operators as launches on raw memory: without penalty and with l1 a single one for as many
// weights as a table holds.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <vector>

#include "cuda/launch.cuh"
#include "cuda/prox_launch.cuh"
#include "cuda/prox_select_launch.cuh"
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
  Selection<scalar_t> of_weights;
  Selection<double> of_groups;

  void allocate(const at::Tensor& weight, const Penalty& penalty) {
    const auto options = weight.options().memory_format(std::nullopt);
    const bool keeps = penalty.rule == Penalty::Rule::kKeep;
    if (penalty.groups && penalty.counts()) norms = at::empty({groups.count}, options.dtype(at::kDouble));
    if (penalty.groups && keeps) keep = at::empty({groups.count}, options.dtype(at::kByte));
    if (penalty.rule == Penalty::Rule::kKeepShrunk) threshold = at::empty({1}, options.dtype(at::kDouble));
    if (penalty.counts() && penalty.groups) of_groups = {groups.count, options};
    if (penalty.counts() && !penalty.groups) of_weights = {weight.numel(), options};
  }
};

template <typename scalar_t>
device::StepRow<scalar_t> row_of(const StepMemory<scalar_t>& memory, double threshold) {
  const auto& p = memory.p;
  return {p, numel_of(memory.groups), threshold, aligned(p.weight, p.grad, p.first, p.second)};
}

template <typename real_t>
device::StepFormula<real_t> formula_of(const Optimizer& optimizer, const Penalty& penalty) {
  return {static_cast<real_t>(optimizer.decay()), static_cast<real_t>(optimizer.fresh()),
          static_cast<real_t>(optimizer.beta2),   static_cast<real_t>(optimizer.fresh_square()),
          static_cast<real_t>(optimizer.eps),     penalty.shrinks_in_update()};
}

// The updates of all rows, in launches of up to `capacity` of them.
template <int capacity, typename scalar_t>
void launch_updates(c10::ArrayRef<device::StepRow<scalar_t>> rows, bool adam,
                    const device::StepScalars<device::wide_t<scalar_t>>& scalars) {
  const auto blocks_of = [](const device::StepRow<scalar_t>& row) {
    const int64_t visits = ceil_div(row.numel, row.wide ? kVectorWidth<scalar_t> : 1);
    return std::min(ceil_div(visits, device::kPassThreads), kMostBlocks);
  };
  const auto kernel = adam ? device::adam_kernel<scalar_t, capacity> : device::sgd_kernel<scalar_t, capacity>;
  launch_tables<capacity>(rows, blocks_of, [&](const device::StepTable<scalar_t, capacity>& table, int64_t blocks) {
    launch<false>({blocks, device::kPassThreads}, kernel, table, scalars);
  });
}

template <typename scalar_t>
device::ShrinkRow<scalar_t> shrink_row_of(const StepMemory<scalar_t>& memory, const device::Amount& by) {
  return shrink_row<scalar_t>(memory.p.weight, memory.p.weight, memory.groups, by);
}

// Soft threshold by the largest that goes.
template <typename scalar_t>
void launch_keep_shrunk(const StepMemory<scalar_t>& memory, bool groups, const device::Amount& stay) {
  scalar_t* weight = memory.p.weight;
  double* found = memory.threshold.template data_ptr<double>();
  if (groups) {
    launch_group_norms(weight, memory.norms.template data_ptr<double>(), memory.groups);
    memory.of_groups.find_gone(memory.norms.template const_data_ptr<double>(), stay, found);
    launch_shrink_groups<scalar_t>(shrink_row_of(memory, {0, found}));
  } else {
    memory.of_weights.find_gone(weight, stay, found);
    launch_soft_threshold(weight, weight, numel_of(memory.groups), {0, found});
  }
}

template <typename scalar_t>
void launch_keep(const StepMemory<scalar_t>& memory, bool groups, const device::Amount& stay) {
  const auto& p = memory.p;
  if (!groups) return memory.of_weights.mark(p.weight, stay, {p.mask, {p.weight, p.first, p.second}});
  uint8_t* keep = memory.keep.template data_ptr<uint8_t>();
  double* norms = memory.norms.template data_ptr<double>();
  launch_group_norms(p.weight, norms, memory.groups);
  memory.of_groups.mark(norms, stay, {keep, {nullptr, nullptr, nullptr}});
  launch_clear_groups<scalar_t>(keep, memory.groups, {p.mask, {p.weight, p.first, p.second}});
}

// What follows the updates, where those do not do it: block soft thresholds of all weights in as few launches as hold
// them, what counts weight by weight.
template <typename scalar_t>
void launch_penalties(c10::ArrayRef<StepMemory<scalar_t>> memories, const Penalty& penalty,
                      c10::ArrayRef<device::Amount> amounts) {
  if (penalty.is_in_update()) return;
  if (penalty.rule == Penalty::Rule::kShrink) {
    std::vector<device::ShrinkRow<scalar_t>> rows;
    for (size_t i = 0; i < memories.size(); ++i) rows.push_back(shrink_row_of(memories[i], amounts[i]));
    return launch_shrink_groups<scalar_t>(rows);
  }
  const auto launch_one = penalty.rule == Penalty::Rule::kKeep ? launch_keep<scalar_t> : launch_keep_shrunk<scalar_t>;
  for (size_t i = 0; i < memories.size(); ++i) launch_one(memories[i], penalty.groups, amounts[i]);
}

// A step of a loop, whose scalars lie on the device.
template <typename scalar_t>
void launch_step(const StepMemory<scalar_t>& memory, bool adam, const Penalty& penalty,
                 const device::StepScalars<device::wide_t<scalar_t>>& scalars) {
  const device::StepRow<scalar_t> row = row_of(memory, 0);
  launch_updates<1, scalar_t>(row, adam, scalars);
  launch_penalties<scalar_t>(memory, penalty, device::Amount{0, &scalars.on_device->amount});
}

}  // namespace fsc
