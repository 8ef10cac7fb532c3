// Products on tensor cores with the precision of float32: 3xTF32, by one warp.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"

namespace fsc::device {

// A float as two numbers of 10 bits of mantissa: what tensor cores read, and what that leaves but for a bit or two.
struct Split {
  uint32_t high;
  uint32_t low;
};

// To nearest, ties away from zero, by integers: the conversion takes more instructions, as it looks for infinity too.
// The largest NaNs overflow to zero and survive in what is left.
FSC_DEVICE uint32_t rounded_to_tf32(uint32_t bits) { return (bits + 0x1000u) & 0xffffe000u; }

// Whether the values of a type are TF32 numbers.
template <typename scalar_t>
constexpr bool kIsTf32 = sizeof(scalar_t) == 2;

// kExact: the value is a TF32 number; then nothing is left.
template <bool kExact>
FSC_DEVICE Split split(float value) {
  const uint32_t bits = float_to_bits(value);
  if constexpr (kExact) return {bits, 0};
  const uint32_t high = rounded_to_tf32(bits);
  // Tensor cores cut the low part off after ten bits: 2^-21 of the value at most, below float32's precision beside it.
  return {high, float_to_bits(value - bits_to_float(high))};
}

// large and small += left(row, k) right(k, column) over k in [begin, end), a multiple of 8 of them, for the 16 kRows
// rows and 8 kColumns columns of a warp, in the layout of mma; `small` takes the products with a low part, where there
// are. The products of two low parts are below float32's precision. Infinity comes out as NaN, and so do numbers that
// round to it: those within 2^-12 of float32's largest.
template <bool kExact, int kRows, int kColumns, typename Left, typename Right>
FSC_DEVICE void add_products(const Left& left, const Right& right, int begin, int end,
                             float (&large)[kRows][kColumns][4], float (&small)[kRows][kColumns][4]) {
  const int g = thread() % kWarp / 4, t = thread() % 4;
  // Unrolled, it takes so many registers that fewer blocks fit.
  FSC_ROLLED
  for (int k = begin; k < end; k += 8) {
    uint32_t a[kRows][4], a_low[kRows][4];
    FSC_UNROLL
    for (int i = 0; i < kRows * 4; ++i) {
      const Split s = split<kExact>(left(g + i / 4 * 16 + i % 2 * 8, k + t + i / 2 % 2 * 4));
      a[i / 4][i % 4] = s.high, a_low[i / 4][i % 4] = s.low;
    }
    FSC_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const Split s0 = split<kExact>(right(k + t, j * 8 + g)), s1 = split<kExact>(right(k + t + 4, j * 8 + g));
      const uint32_t b[2] = {s0.high, s1.high}, b_low[2] = {s0.low, s1.low};
      FSC_UNROLL
      for (int i = 0; i < kRows; ++i) {
        if constexpr (!kExact) mma_tf32(small[i][j], a_low[i], b);
        if constexpr (!kExact) mma_tf32(small[i][j], a[i], b_low);
        mma_tf32(large[i][j], a[i], b);
      }
    }
  }
}

// sums += left(row, k) right(k, column) likewise. Tensor cores truncate their sums, which is a bias: so these are short
// and begin with zero, the products with a low part have sums of their own, and all beyond is rounded to nearest.
template <bool kExact, int kRows, int kColumns, typename Left, typename Right>
FSC_DEVICE void multiply_fragments(const Left& left, const Right& right, int begin, int end,
                                   float (&sums)[kRows][kColumns][4]) {
  float large[kRows][kColumns][4] = {}, small[kRows][kColumns][4] = {};
  add_products<kExact>(left, right, begin, end, large, small);
  FSC_UNROLL
  for (int i = 0; i < kRows * kColumns * 4; ++i) {
    const int r = i / (4 * kColumns), c = i / 4 % kColumns;
    sums[r][c][i % 4] += large[r][c][i % 4] + small[r][c][i % 4];
  }
}

// sums += left right^T over kDepth values of lines of kLine: `left` begins with the first of the warp's rows, `right`
// with the first of its columns.
template <bool kExact, int kDepth, int kLine, int kRows, int kColumns>
FSC_DEVICE void multiply_lines(const float* left, const float* right, float (&sums)[kRows][kColumns][4]) {
  multiply_fragments<kExact>([&](int row, int k) { return left[row * kLine + k]; },
                             [&](int k, int column) { return right[column * kLine + k]; }, 0, kDepth, sums);
}

}  // namespace fsc::device
