// One tile of a Gram matrix: what the threads of a block make of slabs of im2col columns in shared memory.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/tensor_cores.cuh"

namespace fsc::device {

constexpr int kGramThreads = 256;
constexpr int kGramTile = 64;     // rows and columns of the Gram matrix that a block computes
constexpr int kGramSlab = kWarp;  // columns of im2col that it holds at a time: one for each lane

// Slabs are [kGramTile, kGramSlab] in lines of kLine values, so that the threads of a warp read from different banks.
template <typename real_t>
constexpr int kLine = sizeof(real_t) == 8 ? kGramSlab + 1 : kGramSlab + 4;

struct Tile {
  int64_t row, column;  // its first entry in the Gram matrix
};

// The tiles of a Gram matrix; of a symmetric one only those on or below the diagonal.
struct Tiles {
  int64_t rows, columns;
  bool symmetric;

  FSC_DEVICE Tile at(int64_t b) const {
    if (!symmetric) {
      const int64_t across = (columns + kGramTile - 1) / kGramTile;
      return {b / across * kGramTile, b % across * kGramTile};
    }
    // Line r begins with tile r (r + 1) / 2; the root may be off by one.
    auto r = static_cast<int64_t>((std::sqrt(8.0 * static_cast<double>(b) + 1.0) - 1.0) / 2.0);
    while (r * (r + 1) / 2 > b) --r;
    while ((r + 1) * (r + 2) / 2 <= b) ++r;
    return {r * kGramTile, (b - r * (r + 1) / 2) * kGramTile};
  }

  // Whether the sums want anything of `height` rows of a tile from (row, column) on.
  FSC_DEVICE bool want(Tile tile, int row, int column, int height) const {
    const int64_t r = tile.row + row, c = tile.column + column;
    return r < rows && c < columns && (!symmetric || c < r + height);
  }
};

// A tile on tensor cores. A warp has 32 rows and 16 columns of it, which are four blocks [16, 8] of mma.
template <bool kExact>
struct TensorProduct {
  float sums[2][2][4] = {};  // of a panel

  static FSC_DEVICE int first_row() { return thread() / kWarp / 4 * 32; }
  static FSC_DEVICE int first_column() { return thread() / kWarp % 4 * 16; }

  // The same answer for all of a warp.
  static FSC_DEVICE bool wanted(const Tiles& tiles, Tile tile) {
    return tiles.want(tile, first_row(), first_column(), 32);
  }

  // sums += left right^T.
  FSC_DEVICE void add_slab(const float* left, const float* right) {
    constexpr int line = kLine<float>;
    multiply_lines<kExact, kGramSlab, line>(left + first_row() * line, right + first_column() * line, sums);
  }

  // tile: [kGramTile, kGramTile], what the panels so far add up to; registers would not hold that too.
  FSC_DEVICE void end_panel(double* tile, bool first) {
    const int lane = thread() % kWarp, row = first_row() + lane / 4, column = first_column() + lane % 4 * 2;
    FSC_UNROLL
    for (int i = 0; i < 16; ++i) {
      const int r = row + i / 8 * 16 + i / 2 % 2 * 8, c = column + i / 4 % 2 * 8 + i % 2;
      double& total = tile[r * kGramTile + c];
      float& sum = sums[i / 8][i / 4 % 2][i % 4];
      total = static_cast<double>(sum) + (first ? 0.0 : total);
      sum = 0;
    }
  }

  FSC_DEVICE void end(double*) const {}
};

// A tile in float64: a thread has every 16th row and column of it.
struct DoubleProduct {
  double totals[4][4] = {};

  static FSC_DEVICE int first_row() { return thread() / 16; }
  static FSC_DEVICE int first_column() { return thread() % 16; }

  static FSC_DEVICE bool wanted(const Tiles& tiles, Tile tile) {
    return tiles.want(tile, first_row(), first_column(), kGramTile);
  }

  FSC_DEVICE void add_slab(const double* left, const double* right) {
    constexpr int line = kLine<double>;
    const double* a_from = left + first_row() * line;
    const double* b_from = right + first_column() * line;
    for (int k = 0; k < kGramSlab; ++k) {
      double a[4], b[4];
      FSC_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = a_from[16 * i * line + k];
      FSC_UNROLL
      for (int i = 0; i < 4; ++i) b[i] = b_from[16 * i * line + k];
      FSC_UNROLL
      for (int i = 0; i < 16; ++i) totals[i / 4][i % 4] = multiply_add(a[i / 4], b[i % 4], totals[i / 4][i % 4]);
    }
  }

  FSC_DEVICE void end_panel(double*, bool) {}

  FSC_DEVICE void end(double* tile) const {
    FSC_UNROLL
    for (int i = 0; i < 16; ++i) {
      tile[(first_row() + i / 4 * 16) * kGramTile + first_column() + i % 4 * 16] = totals[i / 4][i % 4];
    }
  }
};

template <typename scalar_t>
struct ProductOf {
  using type = TensorProduct<kIsTf32<scalar_t>>;
};
template <>
struct ProductOf<double> {
  using type = DoubleProduct;
};

}  // namespace fsc::device
