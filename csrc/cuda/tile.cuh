// Products of 64 x 64 tiles by the four warps of a block, from slabs in shared memory: tensor cores in 3xTF32 for
// float32 and narrower types, plain multiply-adds for float64.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/tensor_cores.cuh"

namespace fsc::device {

constexpr int kTile = 64;          // rows and columns of a block's product
constexpr int kTileThreads = 128;  // four warps, each with a quarter of 32 x 32
constexpr int kTileBlocks = 3;     // on a multiprocessor; without it nvcc spills for more of them
constexpr int kRowSums = 2;        // a quarter is 2 x 4 products of 16 x 8
constexpr int kColumnSums = 4;

// What is summed over at a time: lines of 128 bytes.
template <typename real_t>
constexpr int kSlab = 128 / sizeof(real_t);

// One operand: 64 rows (or columns) of a line; 16 bytes more keep the fragments of a warp in different banks, and lines
// where copies of 16 bytes may begin.
template <typename real_t>
using Slab = real_t[kTile][kSlab<real_t> + 16 / sizeof(real_t)];

template <typename real_t>
FSC_DEVICE int64_t slabs_of(int64_t total) {
  return (total + kSlab<real_t> - 1) / kSlab<real_t>;
}

// What a thread holds of the product.
template <typename real_t>
struct Sums {
  static constexpr int kEntries = kRowSums * kColumnSums * 4;
  real_t values[kRowSums][kColumnSums][4];

  FSC_DEVICE void clear() {
    FSC_UNROLL
    for (int i = 0; i < kEntries; ++i) values[i / (4 * kColumnSums)][i / 4 % kColumnSums][i % 4] = 0;
  }

  // Calls visit(row, column, sum) for every element of the tile that this thread holds.
  template <typename Visit>
  FSC_DEVICE void visit(const Visit& visit) {
    visit_with(*this, [&](int row, int column, real_t& mine, real_t&) { visit(row, column, mine); });
  }

  // Calls visit(row, column, sum, other sum) likewise.
  template <typename Visit>
  FSC_DEVICE void visit_with(Sums& other, const Visit& visit) {
    const int warp = thread() / kWarp, lane = thread() % kWarp;
    FSC_UNROLL
    for (int i = 0; i < kRowSums; ++i) {
      FSC_UNROLL
      for (int j = 0; j < kColumnSums; ++j) {
        FSC_UNROLL
        for (int e = 0; e < 4; ++e) {
          visit(warp / 2 * 32 + i * 16 + lane / 4 + e / 2 * 8, warp % 2 * 32 + j * 8 + lane % 4 * 2 + e % 2,
                values[i][j][e], other.values[i][j][e]);
        }
      }
    }
  }
};

// sums += left right^T over one slab; kExact where both hold nothing but TF32 numbers.
template <bool kExact = false>
FSC_DEVICE void multiply(const Slab<float>& left, const Slab<float>& right, Sums<float>& sums) {
  constexpr int line = sizeof(left[0]) / sizeof(float);
  const int warp = thread() / kWarp;
  multiply_lines<kExact, kSlab<float>, line>(left[warp / 2 * 32], right[warp % 2 * 32], sums.values);
}

template <bool kExact = false>
FSC_DEVICE void multiply(const Slab<double>& left, const Slab<double>& right, Sums<double>& sums) {
  for (int k = 0; k < kSlab<double>; ++k) {
    sums.visit([&](int row, int column, double& sum) { sum = multiply_add(left[row][k], right[column][k], sum); });
  }
}

}  // namespace fsc::device
