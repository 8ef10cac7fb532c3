// Gram matrices of im2col columns on the device; no ATen here. The columns are never in memory: a block gathers slabs
// of them from the images into shared memory, and multiplies what it gathered.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/device.cuh"
#include "cuda/gram_operand.cuh"
#include "cuda/gram_tiles.cuh"
#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor_cores.cuh"
#include "cuda/tile.cuh"

namespace fsc::device {

// Slabs whose products are summed in float32, before the sums are float64.
constexpr int kPanelSlabs = 32;
constexpr int kAddThreads = 256;
constexpr int kAddRows = kAddThreads / kTile;  // of a tile, that a block of add_tiles_kernel adds

// The shared memory of a block.
template <typename scalar_t, typename index_t>
struct GramMemory {
  using real_t = wide_t<scalar_t>;
  struct Stage {
    Slab<real_t> left, right;
  };
  alignas(16) GramRow<index_t> left[kTile], right[kTile];
  alignas(16) Stage stages[kStages];
  double totals[kTile * kPieceLine];
};

// Both operands of a tile; one slab does where they are the same rows.
template <typename scalar_t, typename index_t, GramCopies kCopies>
struct Operands {
  using Stage = typename GramMemory<scalar_t, index_t>::Stage;
  Operand<scalar_t, index_t, kCopies> left, right;
  bool same;

  FSC_DEVICE void fill(const Column<index_t>& column, int c, Stage& stage) {
    left.fill(column, c, stage.left);
    if (!same) right.fill(column, c, stage.right);
  }
  FSC_DEVICE void keep(Stage& stage) {
    left.keep(stage.left);
    if (!same) right.keep(stage.right);
  }
};

// The product of a tile: sums of a panel in registers, of all panels in shared memory.
template <typename real_t, bool kExact, bool kTurned>
struct PanelSums {
  Sums<real_t> sums;
  double* totals;  // [kTile, kPieceLine]
  bool wanted;     // the same for all of a warp
  int slabs = 0;
  bool first = true;

  FSC_DEVICE PanelSums(const GramTargets& targets, const GramTile& tile, double* to) : totals(to) {
    const int warp = thread() / kWarp;
    wanted = targets.wants(tile.row + warp / 2 * 32, tile.column + warp % 2 * 32);
    sums.clear();
  }

  FSC_DEVICE void add(const Slab<real_t>& left, const Slab<real_t>& right) {
    if (!wanted) return;
    const auto in = [](const Slab<real_t>& slab) {
      return [values = &slab[0][0]](int row, int k) {
        return kTurned ? values[k * kTurnedLine + row] : values[row * kStraightLine<real_t> + k];
      };
    };
    multiply<kExact>(in(left), in(right), sums);
    if (++slabs == kPanelSlabs) end_panel();
  }

  FSC_DEVICE void end_panel() {
    sums.settle();
    sums.visit([&](int row, int column, real_t& sum) {
      double& total = totals[row * kPieceLine + column];
      total = static_cast<double>(sum) + (first ? 0.0 : total);
    });
    sums.clear();
    slabs = 0;
    first = false;
  }
};

// The tile's part of [S; T] [S; T]^T over the share of the slabs that block_y has, of `splits`: added to the Gram
// matrices where it is all, written to sums [splits, tiles, kTile, kTile] otherwise.
template <typename scalar_t, typename index_t, GramCopies kCopies>
FSC_KERNEL(kTileThreads, kTileBlocks)
gram_tiles_kernel(Stacked<scalar_t, index_t> rows, Geometry<index_t> geometry, GramTargets targets, GramTiles tiles,
                  int64_t num_slabs, int64_t splits, double* sums) {
  using real_t = wide_t<scalar_t>;
  constexpr bool turned = kCopies == GramCopies::kChannels;
  using Loader = Operand<scalar_t, index_t, kCopies>;
  auto& memory = *shared<GramMemory<scalar_t, index_t>>();
  const GramTile tile = tiles.at(block());
  for (int i = thread(); i < kTile; i += num_threads()) {
    memory.left[i] = rows.template row<turned>(geometry.window, tile.row + i);
    memory.right[i] = rows.template row<turned>(geometry.window, tile.column + i);
  }
  barrier();

  Operands<scalar_t, index_t, kCopies> slabs{
      {rows, memory.left, tile.row}, {rows, memory.right, tile.column}, tile.row == tile.column};
  PanelSums<real_t, kIsTf32<scalar_t>, turned> panel(targets, tile, memory.totals);
  const int64_t first = block_y() * num_slabs / splits, last = (block_y() + 1) * num_slabs / splits;
  Cursor<index_t> cursor(geometry.pixels, first * kSlab<real_t> + Loader::first_column());
  pipeline(
      memory.stages, last - first,
      [&](int64_t, auto& stage) {
        FSC_UNROLL
        for (int c = 0; c < Loader::kColumns; ++c) {
          slabs.fill(column_at<kCopies != GramCopies::kPixels>(rows.student, rows.teacher, geometry, cursor), c, stage);
          cursor.step(geometry.pixels);
        }
      },
      [&](auto& stage) { slabs.keep(stage); },
      [&](const auto& stage) { panel.add(stage.left, slabs.same ? stage.left : stage.right); });
  if (panel.wanted) panel.end_panel();
  barrier();

  if (splits == 1) return add_piece<kTile>(memory.totals, targets, tile.row, tile.column);
  double* to = sums + (block_y() * num_blocks() + block()) * (kTile * kTile);
  for (int i = thread(); i < kTile * kTile; i += num_threads()) {
    const int row = i / kTile, column = i % kTile;
    if (targets.wants(tile.row + row, tile.column + column)) to[i] = memory.totals[row * kPieceLine + column];
  }
}

// Adds the sum of sums[s, block] over the splits, in their order, to the Gram matrices; blocks along y share a tile.
FSC_KERNEL(kAddThreads)
add_tiles_kernel(const double* sums, GramTargets targets, GramTiles tiles, int64_t splits) {
  auto* piece = shared<double>();  // [kAddRows, kPieceLine]
  const GramTile tile = tiles.at(block());
  const int row = tile.row + static_cast<int>(block_y()) * kAddRows, own = thread() / kTile;
  double total = 0;
  if (targets.wants(row + own, tile.column + thread() % kTile)) {
    const double* from = sums + block() * (kTile * kTile) + block_y() * kAddThreads + thread();
    for (int64_t s = 0; s < splits; ++s) total += from[s * num_blocks() * (kTile * kTile)];
  }
  piece[own * kPieceLine + thread() % kTile] = total;
  barrier();
  add_piece<kAddRows>(piece, targets, row, tile.column);
}

}  // namespace fsc::device
