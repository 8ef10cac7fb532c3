// What loops that run all their steps in one launch share: the steps, their losses, and how blocks read what others
// wrote. No ATen here.
#pragma once

#include <cstdint>

#include "cuda/step_kernels.cuh"
#include "cuda/warp_tile.cuh"

namespace fsc::device {

// What all steps have in common, and where their losses go.
template <typename real_t>
struct ManySteps {
  const ScheduledStep* steps;  // [num_steps]
  double* sums;                // [num_steps, blocks]
  int64_t num_steps;
  double factor;  // of the gradient
  bool adam;
  bool has_momentum;
  StepFormula<real_t> formula;

  // A step of one weight and its state, which lie in memory as scalar_t or would after every step.
  template <typename scalar_t>
  FSC_DEVICE void apply(const ScheduledStep& step, real_t g, real_t& weight, real_t& first, real_t& second) const {
    real_t change = static_cast<real_t>(step.rate) * g;
    if (adam) change = formula.adam(step, g, first, second);
    if (has_momentum) change = formula.momentum(step, g, first);
    weight = as_stored<scalar_t>(formula.without(step, weight, change));
    first = as_stored<scalar_t>(first);
    second = as_stored<scalar_t>(second);
  }
};

constexpr int kLossThreads = 256;

// The loss before every step: scale times the sum over blocks in their order. One thread a step.
FSC_KERNEL(kLossThreads)
losses_kernel(const double* sums, int64_t num_steps, int64_t blocks, double scale, double* losses) {
  stride_over<1>(num_steps, [&](int64_t t, int) {
    double sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += sums[t * blocks + b];
    losses[t] = scale * sum;
  });
}

// Calls take(i, value) for this lane's share of a row that other blocks wrote, some loads on their way at a time.
template <typename T, typename Take>
FSC_DEVICE void read_of_blocks(const T* row, int count, const Take& take) {
  constexpr int kOnTheirWay = 8;
  for (int i = thread() % kWarp; i < count; i += kOnTheirWay * kWarp) {
    T values[kOnTheirWay];
    FSC_UNROLL
    for (int v = 0; v < kOnTheirWay; ++v) {
      if (i + v * kWarp < count) values[v] = load_of_blocks(row + i + v * kWarp);
    }
    FSC_UNROLL
    for (int v = 0; v < kOnTheirWay; ++v) {
      if (i + v * kWarp < count) take(i + v * kWarp, values[v]);
    }
  }
}

// 4 more than a multiple of 8 keep the fragments of a warp in different banks.
constexpr int stride_of(int depth) { return (depth + 7) / 8 * 8 + 4; }

}  // namespace fsc::device
