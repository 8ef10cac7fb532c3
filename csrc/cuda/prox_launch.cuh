// Launches of the proximal kernels on raw memory, shared by the proximal operators and the optimiser steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/prox_kernels.cuh"

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

template <typename scalar_t>
void launch_group_norms(const scalar_t* weight, double* norms, const Groups& groups) {
  constexpr int64_t scratch = device::kPassThreads / device::kWarp * sizeof(double);
  launch<true>({std::min(groups.count, kMostBlocks), device::kPassThreads, scratch},
               device::group_norms_kernel<scalar_t>, weight, norms, groups);
}

template <typename scalar_t>
void launch_shrink_groups(const scalar_t* weight, scalar_t* output, const double* norms, const Groups& groups,
                          const device::Amount& by) {
  launch<false>(grid_over(numel_of(groups), device::kPassThreads), device::shrink_groups_kernel<scalar_t>, weight,
                output, norms, groups, by);
}

template <typename value_t>
void launch_mark_largest(const value_t* values, int64_t size, const device::Amount& stay, uint8_t* keep) {
  launch<true>({1, device::kSelectThreads, sizeof(device::SelectMemory)}, device::mark_largest_kernel<value_t>, values,
               size, stay, keep);
}

template <typename value_t>
void launch_largest_gone(const value_t* values, int64_t size, const device::Amount& stay, double* found) {
  launch<true>({1, device::kSelectThreads, sizeof(device::SelectMemory)}, device::largest_gone_kernel<value_t>, values,
               size, stay, found);
}

template <typename scalar_t>
void launch_clear(scalar_t* values, const uint8_t* keep, const Groups& groups) {
  launch<false>(grid_over(numel_of(groups), device::kPassThreads), device::clear_kernel<scalar_t>, values, keep,
                groups);
}

}  // namespace fsc
