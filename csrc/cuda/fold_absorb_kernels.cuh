// A 1x1 convolution written into the one before it, for many layers at once on the device: W' = Q W as products of
// tiles, b' = Q b + p behind the first of each row of tiles; no ATen here.
#pragma once

#include <cstdint>

#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "cuda/table.cuh"
#include "cuda/tile.cuh"

namespace fsc {

// A layer and the 1x1 convolution behind it; null where there is no bias.
template <typename scalar_t>
struct Absorb {
  const scalar_t* weight;     // W [channels, inner] in memory
  const scalar_t* bias;       // b [channels]
  const scalar_t* matrix;     // Q [rows, channels]
  const scalar_t* shift;      // p [rows]
  scalar_t* absorbed_weight;  // [rows, inner]
  scalar_t* absorbed_bias;    // [rows]
  int32_t rows;
  int32_t channels;
  int32_t inner;
  bool wide_weight;  // accesses of 16 bytes; every row then starts on a whole vector
  bool wide_matrix;
};

namespace device {

constexpr int kManyAbsorbed = 60;

template <typename scalar_t, int capacity>
using AbsorbTable = Table<Absorb<scalar_t>, capacity>;
static_assert(sizeof(AbsorbTable<double, kManyAbsorbed>) <= kParameterBytes);

// The second operand by the rows that are summed over: 32 bytes more keep the fragments of a warp in different banks.
template <typename real_t>
struct AbsorbStage {
  Slab<real_t> matrix;
  real_t weight[kSlab<real_t>][kTile + 32 / sizeof(real_t)];
};

template <typename real_t>
struct AbsorbMemory {
  AbsorbStage<real_t> stages[kStages];
};

// A rectangle of a matrix in memory, from a row and a column on, zeros beyond its ends.
template <int width, int columns, int rows, int line, typename scalar_t, typename real_t>
FSC_DEVICE void fetch_part(const scalar_t* matrix, int32_t all_rows, int32_t all_columns, int32_t first_row,
                           int32_t first_column, real_t (&to)[rows][line]) {
  constexpr unsigned across = columns / width, step = kTileThreads / across;
  const auto r = static_cast<int>(static_cast<unsigned>(thread()) / across);
  const auto c = static_cast<int>(static_cast<unsigned>(thread()) % across) * width;
  const int left = first_column + c < all_columns ? all_rows - first_row - r : 0;  // rows of this thread's column
  const scalar_t* from = matrix + static_cast<int64_t>(first_row + r) * all_columns + first_column + c;
  const int64_t stride = static_cast<int64_t>(step) * all_columns;
  // Unrolled, the addresses take registers that the sums need.
  FSC_ROLLED
  for (int n = 0; n < rows; n += step, from += stride) {
    place<width>(&to[r + n][c], n < left ? from : matrix, n < left);
  }
}

// The values of both matrices from `k` on of what is summed over.
template <typename scalar_t, typename real_t>
FSC_DEVICE void fetch_stage(const Absorb<scalar_t>& layer, int32_t first_row, int32_t first_column, int32_t k,
                            AbsorbStage<real_t>& stage) {
  constexpr int width = kVectorWidth<scalar_t>, depth = kSlab<real_t>;
  layer.wide_matrix ? fetch_part<width, depth>(layer.matrix, layer.rows, layer.channels, first_row, k, stage.matrix)
                    : fetch_part<1, depth>(layer.matrix, layer.rows, layer.channels, first_row, k, stage.matrix);
  layer.wide_weight ? fetch_part<width, kTile>(layer.weight, layer.channels, layer.inner, k, first_column, stage.weight)
                    : fetch_part<1, kTile>(layer.weight, layer.channels, layer.inner, k, first_column, stage.weight);
}

template <bool kExact>
FSC_DEVICE void multiply_stage(const AbsorbStage<float>& stage, Sums<float>& sums) {
  const int row = thread() / kWarp / 2 * 32, column = thread() / kWarp % 2 * 32;
  multiply_fragments<kExact>([&](int r, int k) { return stage.matrix[row + r][k]; },
                             [&](int k, int c) { return stage.weight[k][column + c]; }, 0, kSlab<float>, sums.values);
}

template <bool kExact>
FSC_DEVICE void multiply_stage(const AbsorbStage<double>& stage, Sums<double>& sums) {
  for (int k = 0; k < kSlab<double>; ++k) {
    sums.visit([&](int row, int column, double& sum) {
      sum = multiply_add(stage.matrix[row][k], stage.weight[k][column], sum);
    });
  }
}

// The bias of the rows of a tile, each by one warp, in float64.
template <typename scalar_t>
FSC_DEVICE void absorb_bias(const Absorb<scalar_t>& layer, int32_t first_row) {
  const int lane = thread() % kWarp;
  for (int r = thread() / kWarp; r < kTile && first_row + r < layer.rows; r += kTileThreads / kWarp) {
    const int64_t row = first_row + r;
    const scalar_t* factors = layer.matrix + row * layer.channels;
    double sum = 0;
    for (int c = layer.bias ? lane : layer.channels; c < layer.channels; c += kWarp) {
      sum += static_cast<double>(factors[c]) * static_cast<double>(layer.bias[c]);
    }
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
    if (lane != 0) continue;
    layer.absorbed_bias[row] = static_cast<scalar_t>(sum + (layer.shift ? static_cast<double>(layer.shift[row]) : 0.0));
  }
}

template <typename scalar_t>
FSC_DEVICE void absorb_tile(const Absorb<scalar_t>& layer, int32_t first_row, int32_t first_column) {
  using real_t = wide_t<scalar_t>;
  Sums<real_t> sums;
  sums.clear();
  pipeline(
      shared<AbsorbMemory<real_t>>()->stages, slabs_of<real_t>(layer.channels),
      [&](int64_t s, auto& stage) {
        fetch_stage(layer, first_row, first_column, static_cast<int32_t>(s) * kSlab<real_t>, stage);
      },
      [&](const auto& stage) { multiply_stage<kIsTf32<scalar_t>>(stage, sums); });
  sums.visit([&](int r, int c, real_t& sum) {
    const int64_t row = first_row + r;
    if (row >= layer.rows || first_column + c >= layer.inner) return;
    layer.absorbed_weight[row * layer.inner + first_column + c] = static_cast<scalar_t>(sum);
  });
  if (first_column == 0) absorb_bias(layer, first_row);
}

// Tiles from left to right, one block a tile; a layer without columns has one for its bias.
template <typename scalar_t, int capacity>
FSC_KERNEL(kTileThreads, kTileBlocks)
absorb_kernel(AbsorbTable<scalar_t, capacity> table) {
  const Place place = place_in(table);
  const Absorb<scalar_t>& layer = table.rows[place.row];
  const int32_t across = layer.inner > kTile ? (layer.inner + kTile - 1) / kTile : 1;
  const int32_t tiles = (layer.rows + kTile - 1) / kTile * across;
  for (auto tile = static_cast<int32_t>(place.share.block); tile < tiles;
       tile += static_cast<int32_t>(place.share.blocks)) {
    absorb_tile(layer, tile / across * kTile, tile % across * kTile);
    barrier();  // the stages of this tile may still be read
  }
}

}  // namespace device
}  // namespace fsc
