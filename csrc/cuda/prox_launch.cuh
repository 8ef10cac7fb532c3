// Launches of the proximal kernels on raw memory, shared by the proximal operators and the optimiser steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

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

constexpr int64_t kGroupScratch = device::kGroupSums * sizeof(double);

// A row of a narrow group is shorter than what memory gives at once.
template <typename scalar_t, typename... Pointers>
device::Access access_of(const Groups& groups, const Pointers*... pointers) {
  constexpr int64_t narrow = 32 / static_cast<int64_t>(sizeof(scalar_t));
  const bool many = groups.count >= device::kGroupsTogether<device::Access::kNarrow>;
  if (groups.inner < narrow && many) return device::Access::kNarrow;
  const bool wide = groups.inner % device::kGroupWidth<scalar_t, device::Access::kWide> == 0 && aligned(pointers...);
  return wide ? device::Access::kWide : device::Access::kSingle;
}

inline int64_t groups_together(device::Access access) {
  return access == device::Access::kNarrow ? device::kGroupsTogether<device::Access::kNarrow> : 1;
}

inline int64_t blocks_of(const Groups& groups, device::Access access) {
  return std::min(ceil_div(groups.count, groups_together(access)), kMostBlocks);
}

inline int threads_of(device::Access access) {
  return access == device::Access::kNarrow ? device::kMostGroupThreads : device::kGroupThreads;
}

template <typename scalar_t>
void launch_group_norms(const scalar_t* weight, double* norms, const Groups& groups) {
  const auto access = access_of<scalar_t>(groups, weight);
  launch<true>({blocks_of(groups, access), threads_of(access), kGroupScratch}, device::group_norms_kernel<scalar_t>,
               weight, norms, groups, access);
}

// A weight to be shrunk into `output`, which may be itself.
template <typename scalar_t>
device::ShrinkRow<scalar_t> shrink_row(const scalar_t* weight, scalar_t* output, const Groups& groups,
                                       const device::Amount& by) {
  return {weight, output, groups, access_of<scalar_t>(groups, weight, output), by};
}

// What a block keeps at most, so that several fit on a multiprocessor.
constexpr int64_t kHeldBytes = 40 << 10;

// Slots of so many threads for the largest groups of a table, as far as they go.
template <typename scalar_t, int capacity>
device::HeldGroup<scalar_t> held_by(const device::ShrinkTable<scalar_t, capacity>& table, int threads) {
  int64_t most = 0;  // elements that a block has of its groups
  for (int r = 0; r < table.count; ++r) {
    const Groups& groups = table.rows[r].groups;
    most = std::max(most, groups.outer * groups.inner * groups_together(table.rows[r].access));
  }
  constexpr int64_t slots = device::kGroupRound<scalar_t>;
  const int64_t rounds = kHeldBytes / (slots * threads * static_cast<int64_t>(sizeof(scalar_t)));
  return {static_cast<int>(std::min(ceil_div(most, slots * threads), rounds) * slots)};
}

template <int capacity, typename scalar_t>
void launch_shrink_tables(c10::ArrayRef<device::ShrinkRow<scalar_t>> rows) {
  const auto count = [](const device::ShrinkRow<scalar_t>& row) { return blocks_of(row.groups, row.access); };
  launch_tables<capacity>(rows, count, [](const device::ShrinkTable<scalar_t, capacity>& table, int64_t blocks) {
    const int threads = threads_of(table.rows[0].access);
    const auto held = held_by(table, threads);
    const int64_t bytes = kGroupScratch + held.slots * threads * static_cast<int64_t>(sizeof(scalar_t));
    launch<true>({blocks, threads, bytes}, device::shrink_groups_kernel<scalar_t, capacity>, table, held);
  });
}

// The groups of all rows, in launches of up to a table of them; a lone weight travels in a small one. Narrow groups
// have launches of their own: sums depend on the threads of a block, and not on what else is in the list.
template <typename scalar_t>
void launch_shrink_groups(c10::ArrayRef<device::ShrinkRow<scalar_t>> rows) {
  if (rows.size() == 1) return launch_shrink_tables<1>(rows);
  std::vector<device::ShrinkRow<scalar_t>> narrow, others;
  for (const auto& row : rows) (row.access == device::Access::kNarrow ? narrow : others).push_back(row);
  launch_shrink_tables<device::kManyShrunk, scalar_t>(others);
  launch_shrink_tables<device::kManyShrunk, scalar_t>(narrow);
}

template <typename scalar_t>
void launch_clear_groups(const uint8_t* stay, const Groups& groups, const device::Kept<scalar_t>& kept) {
  // What is written is as wide as what is cleared: neighbouring groups go together, others element by element.
  const bool narrow = access_of<scalar_t>(groups) == device::Access::kNarrow;
  const auto access = narrow ? device::Access::kNarrow : device::Access::kSingle;
  launch<false>({blocks_of(groups, access), threads_of(access)}, device::clear_groups_kernel<scalar_t>, stay, groups,
                access, kept);
}

}  // namespace fsc
