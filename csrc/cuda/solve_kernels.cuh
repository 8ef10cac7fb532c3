// Loops on the device: their schedule, and steps on the moments of a layer with the gradient as a product of tiles, or
// all in one launch where the Hessian fits into shared memory; no ATen here.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/convolution_kernels.cuh"
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
  double sum = 0;
  for (int64_t i = thread(); i < count; i += num_threads()) sum += sums[i];
  sum = block_sum(sum, shared<double>());
  if (thread() != 0) return;
  const int64_t t = (*p.done)++;
  p.losses[t] = scale * sum;
  *p.now = p.steps[t];
}

// ---- one launch for the gradient ----

template <typename scalar_t>
struct QuadraticPointers {
  const scalar_t* weight;   // W [rows, columns]
  const scalar_t* hessian;  // H [columns, columns]
  const scalar_t* target;   // C [rows, columns]
  scalar_t* gradient;       // [rows, columns]
  double* sums;             // one a block
  int64_t rows;
  int64_t columns;
  double factor;
};

// 64 columns, from first_column on, of the rows of a slab, from first_row on, of a square matrix, by column.
template <typename scalar_t, typename real_t>
FSC_DEVICE void fetch_columns(const scalar_t* matrix, int64_t size, int64_t first_row, int64_t first_column,
                              Slab<real_t>& slab) {
  const int mine = thread() % kTile;
  const int64_t column = first_column + mine;
  for (int k = thread() / kTile; k < kSlab<real_t>; k += kTileThreads / kTile) {
    const int64_t row = first_row + k;
    const bool inside = row < size && column < size;
    place(&slab[mine][k], matrix + (inside ? row * size + column : 0), inside);
  }
}

// With P = W H: the gradient factor (P - C) and, for every block, the sum of W (P - 2 C).
template <typename scalar_t>
FSC_KERNEL(kTileThreads)
quadratic_kernel(QuadraticPointers<scalar_t> p) {
  using real_t = wide_t<scalar_t>;
  const int64_t first_column = block() * kTile, first_row = block_y() * kTile;
  Sums<real_t> product;
  product.clear();
  pipeline(
      shared<StoredMemory<real_t>>()->stages, slabs_of<real_t>(p.columns),
      [&](int64_t s, auto& stage) {
        const int64_t k = s * kSlab<real_t>;
        fetch(p.weight, p.rows, p.columns, first_row, k, stage.weight);
        fetch_columns(p.hessian, p.columns, k, first_column, stage.x);
      },
      [&](const auto& stage) { multiply<kIsTf32<scalar_t>>(stage.weight, stage.x, product); });
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

// ---- all steps in one launch ----

// Output channels are independent problems as long as the penalty does not join them, so a block runs all steps on its
// own rows; the Hessian stays in its shared memory.
constexpr int kOwnRows = 4;
constexpr int kOwnThreads = 256;

template <typename scalar_t>
struct ManyStepsPointers {
  scalar_t* weight;            // W [rows, columns]
  scalar_t* first;             // exp_avg, or the momentum's buffer, or null
  scalar_t* second;            // exp_avg_sq, or null
  const scalar_t* hessian;     // H [columns, columns]
  const scalar_t* target;      // C [rows, columns]
  const ScheduledStep* steps;  // [num_steps]
  double* sums;                // [num_steps, blocks]
  int64_t num_steps;
  int rows;
  int columns;
  double factor;
  bool adam;
  bool shrink;
  double decay;
  double decay_square;
  double eps;
};

// [columns, columns] of the Hessian, then five times [kOwnRows, columns]: weight, both states, target, gradient.
template <typename real_t>
struct OwnRows {
  real_t *hessian, *weight, *first, *second, *target, *gradient;
  int count;

  FSC_DEVICE static OwnRows in(unsigned char* memory, int columns) {
    auto* start = reinterpret_cast<real_t*>(memory + kOwnThreads / kWarp * sizeof(double));
    const int size = kOwnRows * columns;
    real_t* rows = start + columns * columns;
    return {start, rows, rows + size, rows + 2 * size, rows + 3 * size, rows + 4 * size, size};
  }
};

// The gradient at the rows of this block; returns this thread's share of the sum of W (P - 2 C).
template <typename scalar_t, typename real_t>
FSC_DEVICE double differentiate_rows(const ManyStepsPointers<scalar_t>& p, const OwnRows<real_t>& own) {
  double sum = 0;
  const real_t factor = p.factor;
  for (int i = thread(); i < own.count; i += num_threads()) {
    const real_t* w = own.weight + i / p.columns * p.columns;
    real_t product = 0;
    for (int k = 0; k < p.columns; ++k) {
      product = multiply_add(w[k], own.hessian[k * p.columns + i % p.columns], product);
    }
    sum += static_cast<double>(own.weight[i]) * static_cast<double>(product - 2 * own.target[i]);
    own.gradient[i] = factor * (product - own.target[i]);
  }
  return sum;
}

template <typename scalar_t, typename real_t>
FSC_DEVICE void update_rows(const ManyStepsPointers<scalar_t>& p, const OwnRows<real_t>& own,
                            const ScheduledStep& step) {
  const real_t decay = p.decay, decay_square = p.decay_square, rate = step.rate, root = step.root, eps = p.eps;
  for (int i = thread(); i < own.count; i += num_threads()) {
    const real_t g = own.gradient[i];
    real_t change = g;
    if (p.first) change = own.first[i] = decay * own.first[i] + (p.adam ? (1 - decay) * g : g);
    if (p.adam) {
      own.second[i] = decay_square * own.second[i] + (1 - decay_square) * g * g;
      change = own.first[i] / (std::sqrt(own.second[i]) / root + eps);
    }
    const real_t w = own.weight[i] - rate * change;
    own.weight[i] = p.shrink ? shrunk(w, finite<real_t>(step.amount)) : w;
  }
}

template <typename scalar_t>
FSC_KERNEL(kOwnThreads)
many_steps_kernel(ManyStepsPointers<scalar_t> p) {
  using real_t = wide_t<scalar_t>;
  auto own = OwnRows<real_t>::in(shared<unsigned char>(), p.columns);
  const int64_t begin = block() * own.count, numel = static_cast<int64_t>(p.rows) * p.columns;
  if (numel - begin < own.count) own.count = static_cast<int>(numel - begin);
  for (int i = thread(); i < p.columns * p.columns; i += num_threads()) {
    own.hessian[i] = static_cast<real_t>(p.hessian[i]);
  }
  for (int i = thread(); i < own.count; i += num_threads()) {
    own.weight[i] = static_cast<real_t>(p.weight[begin + i]);
    own.target[i] = static_cast<real_t>(p.target[begin + i]);
    if (p.first) own.first[i] = static_cast<real_t>(p.first[begin + i]);
    if (p.second) own.second[i] = static_cast<real_t>(p.second[begin + i]);
  }
  barrier();
  for (int64_t t = 0; t < p.num_steps; ++t) {
    // The sum's barriers also part reading the weight from changing it.
    const double sum = block_sum(differentiate_rows(p, own), shared<double>());
    if (thread() == 0) p.sums[t * num_blocks() + block()] = sum;
    update_rows(p, own, p.steps[t]);
    barrier();
  }
  for (int i = thread(); i < own.count; i += num_threads()) {
    p.weight[begin + i] = static_cast<scalar_t>(own.weight[i]);
    if (p.first) p.first[begin + i] = static_cast<scalar_t>(own.first[i]);
    if (p.second) p.second[begin + i] = static_cast<scalar_t>(own.second[i]);
  }
}

// The loss before every step: scale times the sum over blocks in their order. One thread a step.
FSC_KERNEL(kOwnThreads)
losses_kernel(const double* sums, int64_t num_steps, int64_t blocks, double scale, double* losses) {
  stride_over<1>(num_steps, [&](int64_t t, int) {
    double sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += sums[t * blocks + b];
    losses[t] = scale * sum;
  });
}

}  // namespace fsc::device
