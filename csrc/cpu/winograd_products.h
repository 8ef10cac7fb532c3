// The products at Winograd's points: a tile of them stays in registers. Included by the file of one set of
// instructions, below its pragma.
#pragma once

#include <cstdint>

#include "cpu/winograd.h"

namespace {

namespace winograd = fsc::winograd;
using winograd::kApart;
using winograd::kChannels;

// out [kRows, kColumns * lanes] = sum over blocks of x [kRows, kChannels] u [kChannels, kColumns * lanes].
template <typename Isa, int kRows, int kColumns>
void product(const float* x, int64_t x_stride, int64_t blocks, const float* u, float* out) {
  using Vector = typename Isa::Vector;
  Vector sums[kRows][kColumns] = {};
  for (int64_t block = 0; block < blocks; ++block, x += x_stride) {
    for (int64_t c = 0; c < kChannels; ++c, u += kColumns * Isa::kLanes) {
      Vector filters[kColumns];
#pragma GCC unroll 2
      for (int j = 0; j < kColumns; ++j) filters[j] = Isa::load(u + j * Isa::kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Vector value = Isa::all(x[i * kChannels + c]);
#pragma GCC unroll 2
        for (int j = 0; j < kColumns; ++j) sums[i][j] = Isa::multiply_add(value, filters[j], sums[i][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kColumns; ++j) Isa::store(out + (i * kColumns + j) * Isa::kLanes, sums[i][j]);
  }
}

template <typename Isa, int kColumns, int kRows>
inline void product_of(int64_t rows, const float* x, int64_t x_stride, int64_t blocks, const float* u, float* out) {
  if (rows == kRows) return product<Isa, kRows, kColumns>(x, x_stride, blocks, u, out);
  if constexpr (kRows > 1) product_of<Isa, kColumns, kRows - 1>(rows, x, x_stride, blocks, u, out);
}

// M = V U: at every point in tiles of rows that are as even as they can be.
template <typename Isa, int kColumns>
void multiply(const winograd::Layer& layer, int64_t rows, const float* v, const float* u, float* m) {
  constexpr int64_t kFilters = kColumns * Isa::kLanes;
  const int64_t blocks = layer.blocks(), tiles = (rows + Isa::kRows - 1) / Isa::kRows;
  for (int64_t point = 0; point < layer.points(); ++point) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = tile * rows / tiles, end = (tile + 1) * rows / tiles;
      product_of<Isa, kColumns, Isa::kRows>(end - begin, v + begin * kChannels, rows * kChannels, blocks, u,
                                            m + begin * kFilters);
    }
    v += blocks * rows * kChannels;
    u += blocks * kChannels * kFilters + kApart;
    m += rows * kFilters + kApart;
  }
}

// sums [kRows, kColumns * lanes] (+)= x^T d of x [rows, kRows of kChannels] and d [rows, kColumns * lanes].
template <typename Isa, int kRows, int kColumns>
void outer_product(const float* x, const float* d, int64_t rows, bool first, float* to) {
  using Vector = typename Isa::Vector;
  Vector sums[kRows][kColumns] = {};
  for (int64_t row = 0; row < rows; ++row, x += kChannels, d += kColumns * Isa::kLanes) {
    Vector residuals[kColumns];
#pragma GCC unroll 2
    for (int j = 0; j < kColumns; ++j) residuals[j] = Isa::load(d + j * Isa::kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vector value = Isa::all(x[i]);
#pragma GCC unroll 2
      for (int j = 0; j < kColumns; ++j) sums[i][j] = Isa::multiply_add(value, residuals[j], sums[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kColumns; ++j, to += Isa::kLanes) {
      Isa::store(to, first ? sums[i][j] : Isa::load(to) + sums[i][j]);
    }
  }
}

// dU (+)= V^T dM.
template <typename Isa, int kColumns>
void accumulate(const winograd::Layer& layer, int64_t rows, const float* v, const float* m, bool first, float* du) {
  constexpr int64_t kFilters = kColumns * Isa::kLanes;
  constexpr int kPart = kColumns == 1 ? 2 * Isa::kOuterRows : Isa::kOuterRows;
  for (int64_t point = 0; point < layer.points(); ++point) {
    for (int64_t block = 0; block < layer.blocks(); ++block) {
      for (int64_t c = 0; c < kChannels; c += kPart) {
        outer_product<Isa, kPart, kColumns>(v + c, m, rows, first, du + c * kFilters);
      }
      v += rows * kChannels;
      du += kChannels * kFilters;
    }
    m += rows * kFilters + kApart;
    du += kApart;
  }
}

}  // namespace
