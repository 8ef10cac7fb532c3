// Products of 64 x 64 tiles by the four warps of a block, from slabs in shared memory: tensor cores in 3xTF32 for
// float32 and narrower types, plain multiply-adds for float64.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"

namespace fsc::device {

constexpr int kTile = 64;          // rows and columns of a block's product
constexpr int kSlab = 32;          // what is summed over at a time
constexpr int kTileThreads = 128;  // four warps, each with a quarter of 32 x 32
constexpr int kRowSums = 2;        // a quarter is 2 x 4 products of 16 x 8
constexpr int kColumnSums = 4;

// One operand: 64 rows (or columns) of 32 values; four more keep the fragments of a warp in different banks.
template <typename real_t>
using Slab = real_t[kTile][kSlab + 4];

// What a thread holds of the product.
template <typename real_t>
struct Sums {
  static constexpr int kEntries = kRowSums * kColumnSums * 4;
  real_t values[kRowSums][kColumnSums][4];

  FSC_DEVICE void clear() {
    FSC_UNROLL
    for (int i = 0; i < kEntries; ++i) values[i / (4 * kColumnSums)][i / 4 % kColumnSums][i % 4] = 0;
  }

  FSC_DEVICE void add(const Sums& other) {
    FSC_UNROLL
    for (int i = 0; i < kEntries; ++i) {
      const int r = i / (4 * kColumnSums), c = i / 4 % kColumnSums;
      values[r][c][i % 4] += other.values[r][c][i % 4];
    }
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

// A float as two numbers of 10 bits of mantissa: what tensor cores read, and what that leaves.
struct Split {
  uint32_t high;
  uint32_t low;
};

FSC_DEVICE Split split(float value) {
  const uint32_t high = to_tf32(value);
  // What a conversion leaves in the bits that tensor cores ignore is not part of the number.
  return {high, to_tf32(value - bits_to_float(high & 0xffffe000u))};
}

// sums += left right^T over one slab. Tensor cores truncate their sums, which is a bias: so these begin with zero for
// every slab, the products with a low part have sums of their own, and all beyond is rounded to nearest. The products
// of two low parts are below float32's precision.
FSC_DEVICE void multiply(const Slab<float>& left, const Slab<float>& right, Sums<float>& sums) {
  const int warp = thread() / kWarp, lane = thread() % kWarp;
  const int row = warp / 2 * 32 + lane / 4, column = warp % 2 * 32 + lane / 4, k = lane % 4;
  Sums<float> large, small;
  large.clear();
  small.clear();
  for (int first = 0; first < kSlab; first += 8) {
    uint32_t a[kRowSums][4], a_low[kRowSums][4];
    FSC_UNROLL
    for (int i = 0; i < kRowSums; ++i) {
      FSC_UNROLL
      for (int e = 0; e < 4; ++e) {
        const Split s = split(left[row + i * 16 + e % 2 * 8][first + k + e / 2 * 4]);
        a[i][e] = s.high, a_low[i][e] = s.low;
      }
    }
    FSC_UNROLL
    for (int j = 0; j < kColumnSums; ++j) {
      const Split s0 = split(right[column + j * 8][first + k]), s1 = split(right[column + j * 8][first + k + 4]);
      const uint32_t b[2] = {s0.high, s1.high}, b_low[2] = {s0.low, s1.low};
      FSC_UNROLL
      for (int i = 0; i < kRowSums; ++i) {
        mma_tf32(small.values[i][j], a_low[i], b);
        mma_tf32(small.values[i][j], a[i], b_low);
        mma_tf32(large.values[i][j], a[i], b);
      }
    }
  }
  sums.add(large);
  sums.add(small);
}

FSC_DEVICE void multiply(const Slab<double>& left, const Slab<double>& right, Sums<double>& sums) {
  for (int k = 0; k < kSlab; ++k) {
    sums.visit([&](int row, int column, double& sum) { sum = multiply_add(left[row][k], right[column][k], sum); });
  }
}

}  // namespace fsc::device
