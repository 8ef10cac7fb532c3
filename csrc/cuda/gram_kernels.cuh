// Gram matrices of im2col columns on the device; no ATen here. The columns are never in memory: a block gathers
// slabs of them from the images into shared memory, and multiplies what it gathered.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/device.cuh"
#include "cuda/gram_product.cuh"
#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "window.h"

namespace fsc::device {

constexpr int kSlabRows = kGramTile / (kGramThreads / kWarp);  // rows of a slab that a warp gathers
constexpr int64_t kNowhere = -(int64_t{1} << 62);

// ---- im2col ----

// The rows of im2col that one network's images give: [count + ones, N * H_out * W_out].
template <typename scalar_t>
struct Features {
  const scalar_t* data;  // [N, C, H, W], in any layout
  int64_t strides[4];
  int64_t height, width;
  int64_t count;  // channels * taps
  bool ones;      // a last row of ones
  Window window;
};

// Where a row of im2col looks from the pixel that the window stands at.
template <typename scalar_t>
struct alignas(16) Row {
  int64_t offset, down, right;
  scalar_t outside;  // its value where there is no pixel
};

// Where a column of im2col stands; `real` is false past the end of a panel.
struct Column {
  int64_t image, y, x;
  bool real;
};

// Columns [begin, end), counted from the first output pixel of an image.
struct Panel {
  int64_t image, begin, end;
};

// The columns of all images, cut into parts whose products are summed in float32. Large images are cut, small ones
// share a panel: one of the two numbers is 1.
struct Panels {
  int64_t images, pixels, out_width;  // pixels of one image's output
  int64_t width;                      // of a panel, at most
  int64_t panels_an_image, images_a_panel;

  FSC_DEVICE Panel at(int64_t p) const {
    const int64_t image = p / panels_an_image * images_a_panel, begin = p % panels_an_image * width;
    const int64_t left = images - image;
    const int64_t stop = (left < images_a_panel ? left : images_a_panel) * pixels;
    return {image, begin, stop - begin < width ? stop : begin + width};
  }
};

template <typename scalar_t>
FSC_DEVICE Row<scalar_t> row_at(const Features<scalar_t>& features, int64_t r) {
  const Axis &vertical = features.window.height, &horizontal = features.window.width;
  if (r >= features.count) {
    return {0, kNowhere, kNowhere, static_cast<scalar_t>(r == features.count && features.ones ? 1.0f : 0.0f)};
  }
  const int64_t taps = vertical.kernel * horizontal.kernel, tap = r % taps;
  const int64_t down = tap / horizontal.kernel * vertical.dilation - vertical.padding;
  const int64_t right = tap % horizontal.kernel * horizontal.dilation - horizontal.padding;
  const int64_t offset = r / taps * features.strides[1] + down * features.strides[2] + right * features.strides[3];
  return {offset, down, right, static_cast<scalar_t>(0.0f)};
}

// The column of this thread's lane in the slab that begins with column `begin` of a panel.
FSC_DEVICE Column column_at(const Panels& panels, const Panel& panel, int64_t begin, const Window& window) {
  const int64_t c = begin + thread() % kWarp, pixel = c % panels.pixels;
  return {panel.image + c / panels.pixels, pixel / panels.out_width * window.height.stride,
          pixel % panels.out_width * window.width.stride, c < panel.end};
}

// ---- slabs ----

// The shared memory of a block.
template <typename scalar_t>
struct GramMemory {
  using real_t = wide_t<scalar_t>;
  struct Stage {
    real_t left[kGramTile * kLine<real_t>], right[kGramTile * kLine<real_t>];
  };
  Row<scalar_t> left[kGramTile], right[kGramTile];
  alignas(16) Stage stages[kStages];
};

// Where a thread has value i of its column in a slab: it gathers one column of the rows that its warp has.
template <typename real_t>
FSC_DEVICE real_t* own_value(real_t* slab, int i) {
  return slab + (thread() / kWarp * kSlabRows + i) * kLine<real_t> + thread() % kWarp;
}

// Half precision waits in `values` until it is put; the others are copied to the slab.
template <typename scalar_t, typename real_t>
FSC_DEVICE void gather(const Features<scalar_t>& features, const Row<scalar_t>* rows, const Column& column,
                       scalar_t (&values)[kSlabRows], real_t* slab) {
  const int64_t here =
      column.image * features.strides[0] + column.y * features.strides[2] + column.x * features.strides[3];
  FSC_UNROLL
  for (int i = 0; i < kSlabRows; ++i) {
    const Row<scalar_t>& row = rows[thread() / kWarp * kSlabRows + i];
    const int64_t y = column.y + row.down, x = column.x + row.right;
    const bool inside = column.real && y >= 0 && y < features.height && x >= 0 && x < features.width;
    const scalar_t* from = features.data + (inside ? here + row.offset : 0);
    const scalar_t otherwise = column.real ? row.outside : static_cast<scalar_t>(0.0f);
    if constexpr (!std::is_same_v<scalar_t, real_t>) {
      values[i] = inside ? *from : otherwise;
    } else if (inside) {
      place(own_value(slab, i), from, true);
    } else {
      *own_value(slab, i) = otherwise;
    }
  }
}

template <typename scalar_t, typename real_t>
FSC_DEVICE void put(const scalar_t (&values)[kSlabRows], real_t* slab) {
  if constexpr (!std::is_same_v<scalar_t, real_t>) {
    FSC_UNROLL
    for (int i = 0; i < kSlabRows; ++i) *own_value(slab, i) = static_cast<real_t>(values[i]);
  }
}

// The slabs of both sides; one of them does where the sides are the same rows.
template <typename scalar_t>
struct Gatherer {
  using Stage = typename GramMemory<scalar_t>::Stage;
  const Features<scalar_t>&left, &right;
  GramMemory<scalar_t>& memory;
  bool same;
  scalar_t values_left[kSlabRows], values_right[kSlabRows];

  FSC_DEVICE void fill(const Column& column, Stage& stage) {
    gather(left, memory.left, column, values_left, stage.left);
    if (!same) gather(right, memory.right, column, values_right, stage.right);
  }
  FSC_DEVICE void keep(Stage& stage) {
    put(values_left, stage.left);
    if (!same) put(values_right, stage.right);
  }
};

// ---- kernels ----

// sums[block_y, block] = the tile's part of U_left U_right^T, from the share of the panels that block_y has:
// sums is [splits, tiles, kGramTile, kGramTile].
template <typename scalar_t>
FSC_KERNEL(kGramThreads)
gram_tiles_kernel(Features<scalar_t> left, Features<scalar_t> right, Tiles tiles, Panels panels, int64_t num_panels,
                  int64_t splits, double* sums) {
  auto& memory = *shared<GramMemory<scalar_t>>();
  const Tile tile = tiles.at(block());
  for (int i = thread(); i < kGramTile; i += num_threads()) {
    memory.left[i] = row_at(left, tile.row + i);
    memory.right[i] = row_at(right, tile.column + i);
  }
  using Product = typename ProductOf<scalar_t>::type;
  Product product;
  const bool wanted = Product::wanted(tiles, tile);
  Gatherer<scalar_t> slabs{left, right, memory, tiles.symmetric && tile.row == tile.column};
  double* total = sums + (block_y() * num_blocks() + block()) * (kGramTile * kGramTile);
  const int64_t first = block_y() * num_panels / splits, last = (block_y() + 1) * num_panels / splits;
  for (int64_t p = first; p < last; ++p) {
    const Panel panel = panels.at(p);
    barrier();  // the rows are there, and nobody reads the slabs of the panel before
    pipeline(
        memory.stages, (panel.end - panel.begin + kGramSlab - 1) / kGramSlab,
        [&](int64_t s, auto& stage) {
          slabs.fill(column_at(panels, panel, panel.begin + s * kGramSlab, left.window), stage);
        },
        [&](auto& stage) { slabs.keep(stage); },
        [&](const auto& stage) {
          if (wanted) product.add_slab(stage.left, slabs.same ? stage.left : stage.right);
        });
    product.end_panel(total, p == first);
  }
  product.end(total);
}

// gram += the sum of sums[s, block] over the splits, in their order; the lower triangle of a symmetric Gram matrix
// is copied to the upper one. Blocks along y share the entries of a tile.
template <typename gram_t>
FSC_KERNEL(kGramThreads)
add_tiles_kernel(const double* sums, Tiles tiles, int64_t splits, gram_t* gram) {
  const Tile tile = tiles.at(block());
  const int entry = static_cast<int>(block_y()) * num_threads() + thread();
  const int64_t row = tile.row + entry / kGramTile, column = tile.column + entry % kGramTile;
  if (row >= tiles.rows || column >= tiles.columns || (tiles.symmetric && column > row)) return;
  double total = 0;
  for (int64_t s = 0; s < splits; ++s) total += sums[(s * num_blocks() + block()) * (kGramTile * kGramTile) + entry];
  gram_t& sum = gram[row * tiles.columns + column];
  sum = static_cast<gram_t>(static_cast<double>(sum) + total);
  if (tiles.symmetric) gram[column * tiles.columns + row] = sum;
}

}  // namespace fsc::device
