// Loops on the device: their schedule, and steps on the moments of a layer with the gradient as a product of tiles; no
// ATen here.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/convolution_slabs.cuh"
#include "cuda/cross_distill_kernels.cuh"
#include "cuda/step_kernels.cuh"

namespace fsc::device {

// ---- the schedule of a loop ----

// As many steps as the parameters of a kernel hold: that way a schedule reaches the device without waiting for it.
constexpr int kPartSteps = 160;

struct PartOfSchedule {
  ScheduledStep steps[kPartSteps];
};

FSC_KERNEL(kPassThreads)
write_schedule_kernel(PartOfSchedule part, int64_t count, ScheduledStep* steps) {
  stride_over<1>(count, [&](int64_t i, int) { steps[i] = part.steps[i]; });
}

// Where a loop stands.
struct Progress {
  const ScheduledStep* steps;  // [T]
  double* losses;              // [T]
  ScheduledStep* now;          // of the step under way
  int64_t* done;               // how many steps have begun
};

// Begins a step: its loss is scale times the sum of all blocks' sums, in their order; one block.
FSC_KERNEL(kMixThreads)
begin_step_kernel(const double* sums, int64_t count, double scale, Progress p) {
  const double sum = total(sums, count);
  if (thread() != 0) return;
  const int64_t t = (*p.done)++;
  p.losses[t] = scale * sum;
  *p.now = p.steps[t];
}

// ---- one launch for the gradient ----

template <typename scalar_t>
struct QuadraticPointers {
  const scalar_t* weight;   // W [rows, columns]
  const scalar_t* hessian;  // H [columns, columns], symmetric
  const scalar_t* target;   // C [rows, columns]
  scalar_t* gradient;       // [rows, columns]
  double* sums;             // one a block
  int64_t rows;
  int64_t columns;
  double factor;
};

template <typename real_t>
struct TwoSlabs {
  struct Stage {
    Slab<real_t> left, right;
  } stages[kStages];
};

// With P = W H: the gradient factor (P - C) and, for every block, the sum of W (P - 2 C).
template <typename scalar_t>
FSC_KERNEL(kTileThreads)
quadratic_kernel(QuadraticPointers<scalar_t> p) {
  using real_t = wide_t<scalar_t>;
  const int64_t first_column = block() * kTile, first_row = block_y() * kTile;
  Sums<real_t> product;
  product.clear();
  pipeline(
      shared<TwoSlabs<real_t>>()->stages, slabs_of<real_t>(p.columns),
      [&](int64_t s, auto& stage) {
        const int64_t k = s * kSlab<real_t>;
        fetch(p.weight, p.rows, p.columns, first_row, k, stage.left);
        fetch(p.hessian, p.columns, p.columns, first_column, k, stage.right);
      },
      [&](const auto& stage) {
        multiply<kIsTf32<scalar_t>>([&](int row, int k) { return stage.left[row][k]; },
                                    [&](int column, int k) { return stage.right[column][k]; }, product);
      });
  product.settle();
  double sum = 0;
  const real_t factor = p.factor;
  product.visit([&](int row, int column, real_t& value) {
    if (first_row + row >= p.rows || first_column + column >= p.columns) return;
    const int64_t i = (first_row + row) * p.columns + first_column + column;
    const real_t c = static_cast<real_t>(p.target[i]);
    sum += static_cast<double>(p.weight[i]) * static_cast<double>(value - 2 * c);
    p.gradient[i] = static_cast<scalar_t>(factor * (value - c));
  });
  sum = block_sum(sum, shared<double>());
  if (thread() == 0) p.sums[block_y() * num_blocks() + block()] = sum;
}

}  // namespace fsc::device
