// All steps on the moments of a layer in one launch: Hessian, weights and the optimiser's state stay in the shared
// memory of the blocks. No ATen here.
#pragma once

#include <cstdint>

#include "cuda/solve_resident_kernels.cuh"

namespace fsc::device {

constexpr int kMomentThreads = 512;
constexpr int kMomentWarps = kMomentThreads / kWarp;
constexpr int kMomentTiles = 2;
// Blocks hold a multiple of so many columns of the Hessian.
constexpr int kMomentColumns = 8 * kMomentTiles;

// Rows of the weight are independent problems as long as the penalty does not join them: each group of 16 has blocks
// of its own, which share out the columns and wait for nobody else.
template <typename scalar_t>
struct ResidentMoments {
  scalar_t* weight;            // W [rows, columns]
  scalar_t* first;             // exp_avg, or the momentum's buffer, or null
  scalar_t* second;            // exp_avg_sq, or null
  const scalar_t* hessian;     // H [columns, columns]
  const scalar_t* target;      // C [rows, columns]
  wide_t<scalar_t>* exchange;  // [2, rows, columns], null with one slab
  unsigned* arrivals;          // [row groups], likewise
  ManySteps<wide_t<scalar_t>> many;
  int rows;
  int columns;
  int slab;   // columns of a block
  int slabs;  // blocks of a row group
  int parts;  // ranges that a product is cut into
};

template <typename real_t>
struct MomentsMemory {
  real_t* hessian;   // [slab, stride], by column
  real_t* weight;    // [16, stride]
  real_t* products;  // [parts, 16, slab]
  real_t* first;     // [16, slab], as all below
  real_t* second;
  real_t* target;
  int stride;

  static constexpr int64_t bytes(int64_t columns, int64_t slab, int64_t parts) {
    return kMomentWarps * sizeof(double) + sizeof(real_t) * ((slab + kWarpRows) * stride_of(static_cast<int>(columns)) +
                                                             (parts + 3) * kWarpRows * slab);
  }

  FSC_DEVICE static MomentsMemory in(unsigned char* memory, int columns, int slab, int parts) {
    const int stride = stride_of(columns), own = kWarpRows * slab;
    auto* hessian = reinterpret_cast<real_t*>(memory + kMomentWarps * sizeof(double));
    real_t* weight = hessian + slab * stride;
    real_t* products = weight + kWarpRows * stride;
    real_t* first = products + parts * own;
    return {hessian, weight, products, first, first + own, first + 2 * own, stride};
  }
};

// The rows and columns of this block, and its part of the tensors of a layer.
template <typename scalar_t>
struct MomentsBlock {
  using real_t = wide_t<scalar_t>;
  const ResidentMoments<scalar_t>& p;
  MomentsMemory<real_t> memory;
  int first_row, first_column, num_rows, num_columns;

  FSC_DEVICE explicit MomentsBlock(const ResidentMoments<scalar_t>& pointers)
      : p(pointers),
        memory(MomentsMemory<real_t>::in(shared<unsigned char>(), p.columns, p.slab, p.parts)),
        first_row(static_cast<int>(block()) / p.slabs * kWarpRows),
        first_column(static_cast<int>(block()) % p.slabs * p.slab),
        num_rows(p.rows - first_row < kWarpRows ? p.rows - first_row : kWarpRows),
        num_columns(p.columns - first_column < p.slab ? p.columns - first_column : p.slab) {}

  // Calls visit(index within [16, slab], offset in a tensor [rows, columns], offset in the weight's memory); warps have
  // rows, for want of divisions.
  template <typename Visit>
  FSC_DEVICE void visit(const Visit& visit) const {
    for (int row = thread() / kWarp; row < num_rows; row += kMomentWarps) {
      const int64_t start = static_cast<int64_t>(first_row + row) * p.columns + first_column;
      for (int column = thread() % kWarp; column < num_columns; column += kWarp) {
        visit(row * p.slab + column, start + column, row * memory.stride + first_column + column);
      }
    }
  }

  FSC_DEVICE void load() const {
    const int size = memory.stride;
    for (int i = thread(); i < p.slab * size; i += kMomentThreads) {
      const int row = i / p.slab, column = i % p.slab;
      const bool inside = row < p.columns && column < num_columns;
      const int64_t offset = static_cast<int64_t>(row) * p.columns + first_column + column;
      memory.hessian[column * size + row] = inside ? static_cast<real_t>(p.hessian[offset]) : real_t(0);
    }
    for (int i = thread(); i < kWarpRows * size; i += kMomentThreads) {
      const int row = i / size, column = i % size;
      const bool inside = row < num_rows && column < p.columns;
      const int64_t offset = static_cast<int64_t>(first_row + row) * p.columns + column;
      memory.weight[i] = inside ? static_cast<real_t>(p.weight[offset]) : real_t(0);
    }
    visit([&](int i, int64_t offset, int) {
      memory.target[i] = static_cast<real_t>(p.target[offset]);
      if (p.first) memory.first[i] = static_cast<real_t>(p.first[offset]);
      if (p.second) memory.second[i] = static_cast<real_t>(p.second[offset]);
    });
  }

  // W H for the columns of this block.
  FSC_DEVICE void multiply() const {
    multiply_by_warps<kMomentTiles, real_t>(
        p.slab, memory.stride - 4, p.parts, [&](int row, int k) { return memory.weight[row * memory.stride + k]; },
        [&](int k, int column) { return memory.hessian[column * memory.stride + k]; },
        [&](int part, int row, int column, real_t sum) {
          memory.products[(part * kWarpRows + row) * p.slab + column] = sum;
        });
  }

  // Steps on the columns of this block; returns this thread's share of the sum of W (P - 2 C) before.
  FSC_DEVICE double update(int64_t t) const {
    double sum = 0;
    const ScheduledStep step = p.many.steps[t];
    real_t* exchange = p.exchange ? p.exchange + t % 2 * p.rows * p.columns : nullptr;
    visit([&](int i, int64_t offset, int place) {
      real_t product = 0;
      for (int part = 0; part < p.parts; ++part) product += memory.products[part * kWarpRows * p.slab + i];
      real_t& w = memory.weight[place];
      const real_t c = memory.target[i], g = static_cast<real_t>(p.many.factor) * (product - c);
      sum += static_cast<double>(w) * static_cast<double>(product - 2 * c);
      p.many.template apply<scalar_t>(step, g, w, memory.first[i], memory.second[i]);
      if (exchange) exchange[offset] = w;
    });
    return sum;
  }

  // Takes over what the other blocks of the row group wrote. They may write the other half of the exchange before this
  // block has read, but not this half: before that they wait for it.
  FSC_DEVICE void take_over(int64_t t) const {
    barrier_of_blocks(p.arrivals + first_row / kWarpRows, static_cast<unsigned>(t + 1) * p.slabs);
    const real_t* from = p.exchange + (t % 2 * p.rows + first_row) * p.columns;
    for (int row = thread() / kWarp; row < num_rows; row += kMomentWarps) {
      real_t* to = memory.weight + row * memory.stride;
      read_of_blocks(from + row * p.columns, p.columns, [&](int i, real_t value) { to[i] = value; });
    }
    barrier();
  }

  FSC_DEVICE void store() const {
    visit([&](int i, int64_t offset, int place) {
      p.weight[offset] = static_cast<scalar_t>(memory.weight[place]);
      if (p.first) p.first[offset] = static_cast<scalar_t>(memory.first[i]);
      if (p.second) p.second[offset] = static_cast<scalar_t>(memory.second[i]);
    });
  }
};

template <typename scalar_t>
FSC_KERNEL(kMomentThreads)
resident_moments_kernel(ResidentMoments<scalar_t> p) {
  const MomentsBlock<scalar_t> own(p);
  own.load();
  barrier();
  for (int64_t t = 0; t < p.many.num_steps; ++t) {
    own.multiply();
    barrier();
    // The sum's barriers also part changing the weight from reading it.
    const double sum = block_sum(own.update(t), shared<double>());
    if (thread() == 0) p.many.sums[t * num_blocks() + block()] = sum;
    if (p.exchange) own.take_over(t);
  }
  own.store();
}

}  // namespace fsc::device
