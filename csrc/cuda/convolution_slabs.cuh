// What the tile kernels put into slabs: the im2col columns of a convolution, gathered as they are needed, and tiles of
// matrices. One group; no ATen here.
#pragma once

#include <cstdint>

#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tile.cuh"

namespace fsc::device {

// A convolution's geometry. Strides of tensors are in elements: n, c, y, x.
struct Convolution {
  int64_t images, channels, height, width;
  int64_t filters, out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride[2], padding[2], dilation[2];
  int64_t input_strides[4];
  int64_t output_strides[4];

  FSC_DEVICE int64_t rows() const { return channels * kernel_height * kernel_width; }
  FSC_DEVICE int64_t pixels() const { return images * out_height * out_width; }
};

// One pixel of the output: where it lies, and the top left corner of what it sees.
struct Pixel {
  int64_t image, y, x;

  FSC_DEVICE static Pixel of(const Convolution& c, int64_t number) {
    const int64_t plane = c.out_height * c.out_width, inside = number % plane;
    return {number / plane, inside / c.out_width, inside % c.out_width};
  }
  FSC_DEVICE int64_t output(const Convolution& c, int64_t filter) const {
    return image * c.output_strides[0] + filter * c.output_strides[1] + y * c.output_strides[2] +
           x * c.output_strides[3];
  }
};

// Where row k of the im2col matrix of a pixel lies in the input; -1 in the padding.
FSC_DEVICE int64_t input_offset(const Convolution& c, const Pixel& p, int64_t k) {
  const int64_t taps = c.kernel_height * c.kernel_width, channel = k / taps, tap = k % taps;
  const int64_t y = p.y * c.stride[0] - c.padding[0] + tap / c.kernel_width * c.dilation[0];
  const int64_t x = p.x * c.stride[1] - c.padding[1] + tap % c.kernel_width * c.dilation[1];
  if (y < 0 || y >= c.height || x < 0 || x >= c.width) return -1;
  return p.image * c.input_strides[0] + channel * c.input_strides[1] + y * c.input_strides[2] + x * c.input_strides[3];
}

// What a gather places in a slab, zero where an offset is negative: the values of one tensor.
template <typename scalar_t>
struct Plain {
  const scalar_t* data;

  template <typename real_t>
  FSC_DEVICE void operator()(real_t* to, int64_t offset) const {
    place(to, data + (offset < 0 ? 0 : offset), offset >= 0);
  }
};

// Or the mixtures of two.
template <typename scalar_t>
struct Mixture {
  const scalar_t *teacher, *student;
  wide_t<scalar_t> share_teacher;

  FSC_DEVICE void operator()(wide_t<scalar_t>* to, int64_t offset) const {
    using real_t = wide_t<scalar_t>;
    if (offset < 0) {
      *to = 0;
    } else {
      *to = share_teacher * static_cast<real_t>(teacher[offset]) +
            (1 - share_teacher) * static_cast<real_t>(student[offset]);
    }
  }
};

// The rows of a slab, from first_row on, of the columns of 64 pixels, by pixel: slab[pixel][k].
template <typename real_t, typename Source>
FSC_DEVICE void gather(const Convolution& c, int64_t first_pixel, int64_t first_row, const Source& source,
                       Slab<real_t>& slab) {
  const int mine = thread() % kTile;
  const bool inside = first_pixel + mine < c.pixels();
  const Pixel pixel = Pixel::of(c, inside ? first_pixel + mine : 0);
  for (int k = thread() / kTile; k < kSlab<real_t>; k += kTileThreads / kTile) {
    const bool used = inside && first_row + k < c.rows();
    source(&slab[mine][k], used ? input_offset(c, pixel, first_row + k) : -1);
  }
}

// The columns of a slab, from first_column on, of 64 rows of a matrix [rows, columns], `width` at a time.
template <int width, typename scalar_t, typename real_t>
FSC_DEVICE void fetch_by(const scalar_t* matrix, int64_t rows, int64_t columns, int64_t first_row, int64_t first_column,
                         Slab<real_t>& slab) {
  constexpr int line = kSlab<real_t> / width;
  for (int i = thread(); i < kTile * line; i += kTileThreads) {
    const int64_t row = first_row + i / line, column = first_column + i % line * width;
    const bool inside = row < rows && column < columns;
    place<width>(&slab[i / line][i % line * width], matrix + (inside ? row * columns + column : 0), inside);
  }
}

// Likewise, 16 bytes of the slab at a time where the matrix allows it.
template <typename scalar_t, typename real_t>
FSC_DEVICE void fetch(const scalar_t* matrix, int64_t rows, int64_t columns, int64_t first_row, int64_t first_column,
                      Slab<real_t>& slab) {
  constexpr int width = kVectorWidth<real_t>;
  if (columns % width == 0 && reinterpret_cast<uintptr_t>(matrix) % (width * sizeof(scalar_t)) == 0) {
    fetch_by<width>(matrix, rows, columns, first_row, first_column, slab);
  } else {
    fetch_by<1>(matrix, rows, columns, first_row, first_column, slab);
  }
}

// The pixels of a slab, from first_pixel on, of 64 rows of the im2col matrix, by row, and of 64 filters' residuals.
template <typename scalar_t, typename real_t, typename Source>
FSC_DEVICE void gather_both(const Convolution& c, int64_t first_pixel, int64_t end, int64_t first_row,
                            int64_t first_filter, const Source& source, const scalar_t* residual, Slab<real_t>& rows,
                            Slab<real_t>& filters) {
  const int mine = thread() % kSlab<real_t>;
  const bool inside = first_pixel + mine < end;
  const Pixel pixel = Pixel::of(c, inside ? first_pixel + mine : 0);
  for (int r = thread() / kSlab<real_t>; r < kTile; r += kTileThreads / kSlab<real_t>) {
    source(&rows[r][mine], inside && first_row + r < c.rows() ? input_offset(c, pixel, first_row + r) : -1);
    const bool used = inside && first_filter + r < c.filters;
    place(&filters[r][mine], residual + (used ? pixel.output(c, first_filter + r) : 0), used);
  }
}

}  // namespace fsc::device
