// Products of tiles by the four warps of a block, from slabs in shared memory: tensor cores in 3xTF32 for float32 and
// narrower types, plain multiply-adds for float64.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/tensor_cores.cuh"

namespace fsc::device {

constexpr int kTile = 64;          // rows and columns of a block's product, where nothing else is said
constexpr int kTileThreads = 128;  // four warps
constexpr int kTileBlocks = 3;     // on a multiprocessor; without it nvcc spills for more of them

// What is summed over at a time: lines of 128 bytes.
template <typename real_t>
constexpr int kSlab = 128 / sizeof(real_t);

// One operand: rows (or columns) of a line; 16 bytes more keep the fragments of a warp in different banks, and lines
// where copies of 16 bytes may begin.
template <typename real_t, int rows>
using Lines = real_t[rows][kSlab<real_t> + 16 / sizeof(real_t)];
template <typename real_t>
using Slab = Lines<real_t, kTile>;

// Or transposed, with 32 bytes more for the same reasons.
template <typename real_t, int rows>
using Columns = real_t[kSlab<real_t>][rows + 32 / sizeof(real_t)];

// Whichever it is.
template <bool kTransposed, typename Operand>
FSC_DEVICE auto element(const Operand& operand, int row, int k) {
  if constexpr (kTransposed) return operand[k][row];
  if constexpr (!kTransposed) return operand[row][k];
}

// Constexpr and no function of the device, as the host asks too: nvcc would compile that, and end the process there.
template <typename real_t>
constexpr int64_t slabs_of(int64_t total) {
  return (total + kSlab<real_t> - 1) / kSlab<real_t>;
}

// What a thread holds of a product of [rows, columns]: its warp's part is cut into products of 16 x 8.
template <typename real_t, int rows = kTile, int columns = kTile>
struct Sums {
  static constexpr int kDown = rows < kTile ? 1 : 2, kAcross = kTileThreads / kWarp / kDown;  // warps
  static constexpr int kRowSums = rows / kDown / 16, kColumnSums = columns / kAcross / 8;
  static constexpr int kEntries = kRowSums * kColumnSums * 4;
  real_t values[kRowSums][kColumnSums][4];
  // The products with a low part, 2^-11 of the others: what tensor cores truncate of them is below float32's precision.
  real_t small[kRowSums][kColumnSums][4];

  FSC_DEVICE real_t& entry(int i) { return values[i / (4 * kColumnSums)][i / 4 % kColumnSums][i % 4]; }
  FSC_DEVICE void clear() {
    FSC_UNROLL
    for (int i = 0; i < kEntries; ++i) {
      entry(i) = 0;
      small[i / (4 * kColumnSums)][i / 4 % kColumnSums][i % 4] = 0;
    }
  }
  // Behind the last product.
  FSC_DEVICE void settle() {
    FSC_UNROLL
    for (int i = 0; i < kEntries; ++i) entry(i) += small[i / (4 * kColumnSums)][i / 4 % kColumnSums][i % 4];
  }

  // Where the warp's part begins, and of the 2 kRowSums rows and 2 kColumnSums columns of a thread the one of a number:
  // its sum is values[row number / 2][column number / 2][row number % 2 * 2 + column number % 2].
  FSC_DEVICE static int first_row() { return thread() / kWarp / kAcross * (rows / kDown); }
  FSC_DEVICE static int first_column() { return thread() / kWarp % kAcross * (columns / kAcross); }
  FSC_DEVICE static int row(int number) { return first_row() + number * 8 + thread() % kWarp / 4; }
  FSC_DEVICE static int column(int number) { return first_column() + number / 2 * 8 + thread() % 4 * 2 + number % 2; }

  // Calls visit(row, column, sum) for every element of the product that this thread holds.
  template <typename Visit>
  FSC_DEVICE void visit(const Visit& visit) {
    FSC_UNROLL
    for (int i = 0; i < kEntries; ++i) {
      const int down = i / (4 * kColumnSums) * 2 + i % 4 / 2, across = i / 4 % kColumnSums * 2 + i % 2;
      visit(row(down), column(across), entry(i));
    }
  }
};

// sums += left(row, k) right(column, k) over one slab, complete when they are settled; kExact where both give nothing
// but TF32 numbers.
template <bool kExact, int rows, int columns, typename Left, typename Right>
FSC_DEVICE void multiply(const Left& left, const Right& right, Sums<float, rows, columns>& sums) {
  using Part = Sums<float, rows, columns>;
  const int down = Part::first_row(), across = Part::first_column();
  Part large;
  large.clear();
  add_products<kExact>([&](int row, int k) { return left(down + row, k); },
                       [&](int k, int column) { return right(across + column, k); }, 0, kSlab<float>, large.values,
                       sums.small);
  FSC_UNROLL
  for (int i = 0; i < Part::kEntries; ++i) sums.entry(i) += large.entry(i);
}

template <bool kExact, int rows, int columns, typename Left, typename Right>
FSC_DEVICE void multiply(const Left& left, const Right& right, Sums<double, rows, columns>& sums) {
  FSC_ROLLED
  for (int k = 0; k < kSlab<double>; ++k) {
    sums.visit([&](int row, int column, double& sum) { sum = multiply_add(left(row, k), right(column, k), sum); });
  }
}

}  // namespace fsc::device
