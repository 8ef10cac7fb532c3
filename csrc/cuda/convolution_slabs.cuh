// What the tile kernels put into slabs: lines of matrices, and the im2col columns of a convolution, gathered as they
// are needed; no ATen here.
#pragma once

#include <cstdint>

#include "cuda/geometry.cuh"
#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tile.cuh"

namespace fsc::device {

// The columns of a slab, from first_column on, of the rows from first_row on of a matrix [rows, columns], `width` at a
// time.
template <int width, int lines, typename scalar_t, typename real_t>
FSC_DEVICE void fetch_by(const scalar_t* matrix, int64_t rows, int64_t columns, int64_t first_row, int64_t first_column,
                         Lines<real_t, lines>& slab) {
  constexpr int across = kSlab<real_t> / width, step = kTileThreads / across;
  static_assert(lines % step == 0);
  const int mine = thread() / across, at = thread() % across * width;
  const int64_t column = first_column + at;
  const scalar_t* from = matrix + (first_row + mine) * columns + column;
  FSC_UNROLL
  for (int i = 0; i < lines; i += step) {
    place<width>(&slab[mine + i][at], from + i * columns, column < columns && first_row + mine + i < rows);
  }
}

// Likewise, 16 bytes of the slab at a time where the matrix allows it.
template <int lines, typename scalar_t, typename real_t>
FSC_DEVICE void fetch_any(const scalar_t* matrix, int64_t rows, int64_t columns, int64_t first_row,
                          int64_t first_column, Lines<real_t, lines>& slab) {
  constexpr int width = kVectorWidth<real_t>;
  if (columns % width == 0 && reinterpret_cast<uintptr_t>(matrix) % (width * sizeof(scalar_t)) == 0) {
    fetch_by<width, lines>(matrix, rows, columns, first_row, first_column, slab);
  } else {
    fetch_by<1, lines>(matrix, rows, columns, first_row, first_column, slab);
  }
}

template <typename scalar_t, typename real_t>
FSC_DEVICE void fetch(const scalar_t* matrix, int64_t rows, int64_t columns, int64_t first_row, int64_t first_column,
                      Slab<real_t>& slab) {
  fetch_any<kTile>(matrix, rows, columns, first_row, first_column, slab);
}

// How the values of a slab are copied: of neighbouring channels 16 bytes of the slab at a time, or single ones of
// neighbouring pixels, whatever their strides.
enum class Copies { kChannels, kPixels };

// Values at a time.
template <Copies copies, typename real_t>
constexpr int kCopyWidth = copies == Copies::kChannels ? kVectorWidth<real_t> : 1;

// Calls copy(number, what lies at it) for the numbers first, first + step, ... below `end`, some of them read before
// they are copied, so that copies follow each other.
template <int step, int end, typename Entry, typename Copy>
FSC_DEVICE void copy_each(const Entry* entries, int first, const Copy& copy) {
  static_assert(end % step == 0);
  constexpr int count = end / step, together = count % 4 == 0 ? 4 : 1;
  FSC_UNROLL
  for (int i = 0; i < count; i += together) {
    Entry read[together];
    FSC_UNROLL
    for (int j = 0; j < together; ++j) read[j] = entries[first + (i + j) * step];
    FSC_UNROLL
    for (int j = 0; j < together; ++j) copy(first + (i + j) * step, read[j]);
  }
}

// Deals out [pixels, rows] to the threads: calls copy(pixel's number, row's number, pixel, row), where width
// neighbouring rows make one copy.
template <Copies copies, int width, int pixels, int rows, typename Copy>
FSC_DEVICE void deal_out(const Pixel* all_pixels, const Row* all_rows, const Copy& copy) {
  if constexpr (copies == Copies::kChannels) {
    constexpr int across = rows / width;
    const int r = thread() % across * width;
    const Row row = all_rows[r];
    copy_each<kTileThreads / across, pixels>(all_pixels, thread() / across,
                                             [&](int p, const Pixel& pixel) { copy(p, r, pixel, row); });
  } else {
    const int p = thread() % pixels;
    const Pixel pixel = all_pixels[p];
    copy_each<kTileThreads / pixels, rows>(all_rows, thread() / pixels,
                                           [&](int r, const Row& row) { copy(p, r, pixel, row); });
  }
}

}  // namespace fsc::device
