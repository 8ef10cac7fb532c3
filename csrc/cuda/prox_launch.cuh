// Launches of the proximal kernels on raw memory, shared by the proximal operators and the optimiser steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/prox_kernels.cuh"
#include "cuda/table_launch.cuh"

namespace fsc {

inline Groups groups_of(const at::Tensor& weight, int64_t dim) {
  const auto sizes = weight.sizes();
  return {c10::multiply_integers(sizes.slice(0, dim)), sizes[dim], c10::multiply_integers(sizes.slice(dim + 1))};
}

inline int64_t numel_of(const Groups& groups) { return groups.outer * groups.count * groups.inner; }

template <typename scalar_t>
void launch_soft_threshold(const scalar_t* input, scalar_t* output, int64_t numel, const device::Amount& by) {
  constexpr int width = kVectorWidth<scalar_t>;
  if (aligned(input, output)) {
    launch<false>(grid_over(ceil_div(numel, width), device::kPassThreads),
                  device::soft_threshold_kernel<scalar_t, width>, input, output, numel, by);
  } else {
    launch<false>(grid_over(numel, device::kPassThreads), device::soft_threshold_kernel<scalar_t, 1>, input, output,
                  numel, by);
  }
}

constexpr int64_t kGroupScratch = device::kPassThreads / device::kWarp * sizeof(double);

inline int64_t blocks_of(const Groups& groups) { return std::min(groups.count, kMostBlocks); }

template <typename scalar_t>
void launch_group_norms(const scalar_t* weight, double* norms, const Groups& groups) {
  launch<true>({blocks_of(groups), device::kPassThreads, kGroupScratch}, device::group_norms_kernel<scalar_t>, weight,
               norms, groups);
}

// What a block keeps at most, so that several fit on a multiprocessor.
constexpr int64_t kHeldBytes = 40 << 10;

// Slots for the largest group of a table, as far as they go.
template <typename scalar_t, int capacity>
device::HeldGroup<scalar_t> held_by(const device::ShrinkTable<scalar_t, capacity>& table) {
  int64_t most = 0;
  for (int r = 0; r < table.count; ++r) most = std::max(most, table.rows[r].groups.outer * table.rows[r].groups.inner);
  constexpr int64_t round = device::kGroupLoads * device::kPassThreads;
  constexpr int64_t rounds = kHeldBytes / (round * static_cast<int64_t>(sizeof(scalar_t)));
  return {static_cast<int>(std::min(ceil_div(most, round), rounds)) * device::kGroupLoads};
}

template <int capacity, typename scalar_t>
void launch_shrink_tables(c10::ArrayRef<device::ShrinkRow<scalar_t>> rows) {
  const auto count = [](const device::ShrinkRow<scalar_t>& row) { return blocks_of(row.groups); };
  launch_tables<capacity>(rows, count, [](const device::ShrinkTable<scalar_t, capacity>& table, int64_t blocks) {
    const auto held = held_by(table);
    const int64_t bytes = kGroupScratch + held.slots * device::kPassThreads * static_cast<int64_t>(sizeof(scalar_t));
    launch<true>({blocks, device::kPassThreads, bytes}, device::shrink_groups_kernel<scalar_t, capacity>, table, held);
  });
}

// The groups of all rows, in launches of up to a table of them; a lone weight travels in a small one.
template <typename scalar_t>
void launch_shrink_groups(c10::ArrayRef<device::ShrinkRow<scalar_t>> rows) {
  rows.size() == 1 ? launch_shrink_tables<1>(rows) : launch_shrink_tables<device::kManyShrunk>(rows);
}

template <typename scalar_t>
void launch_clear_groups(const uint8_t* stay, const Groups& groups, const device::Kept<scalar_t>& kept) {
  launch<false>({blocks_of(groups), device::kPassThreads}, device::clear_groups_kernel<scalar_t>, stay, groups, kept);
}

}  // namespace fsc
