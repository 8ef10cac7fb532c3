// How the images of a small layer are cut into slices that stay in the shared memory of blocks, and where everything
// lies there. No ATen here.
#pragma once

#include <cstdint>

#include "cuda/solve_resident_kernels.cuh"

namespace fsc::device {

constexpr int kImageThreads = 512;
constexpr int kImageWarps = kImageThreads / kWarp;
static_assert(kImageWarps == kWarpRows, "each warp has a filter where products become residuals");
constexpr int kImageTiles = 4;
// Pixels, or rows of the im2col matrix, that a warp works on at a time.
constexpr int kImageColumns = 8 * kImageTiles;

constexpr int round_up(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }

// A convolution whose images are cut into slices: `slice_images` whole ones, or `slice_rows` output rows of one.
struct Slices {
  int images, channels, height, width;
  int filters, out_height, out_width;
  int kernel_height, kernel_width;
  int stride[2], padding[2], dilation[2];
  int slice_images, slice_rows;
  int splits;          // slices of all images
  int parts;           // ranges of the im2col rows that an output is summed over in
  int gradient_parts;  // ranges of the pixels that a gradient is summed over in
  bool has_shortcut;

  // Rows of the im2col matrix, pixels of a slice, and the input that they see.
  constexpr int depth() const { return channels * kernel_height * kernel_width; }
  constexpr int pixels() const { return slice_images * slice_rows * out_width; }
  constexpr int bands() const { return (out_height + slice_rows - 1) / slice_rows; }
  constexpr int seen_height() const { return (slice_rows - 1) * stride[0] + (kernel_height - 1) * dilation[0] + 1; }
  constexpr int seen_width() const { return (out_width - 1) * stride[1] + (kernel_width - 1) * dilation[1] + 1; }
};

// Where everything lies in shared memory: in elements, behind the scratch of sums and two tables of offsets.
template <typename real_t>
struct ImagesLayout {
  int64_t columns, rows;          // pixels of a slice and rows of the im2col matrix, to the next multiple
  int64_t weight_stride, stride;  // of the weight, and of the products
  int64_t weight, target, shortcut, products, gradient, end;

  explicit constexpr ImagesLayout(const Slices& s)
      : columns(round_up(s.pixels(), kImageColumns)),
        rows(round_up(s.depth(), kImageColumns)),
        weight_stride(stride_of(s.depth())),
        stride(columns + 4),
        weight(static_cast<int64_t>(s.slice_images) * s.channels * s.seen_height() * s.seen_width()),
        target(weight + kWarpRows * weight_stride),
        shortcut(target + kWarpRows * columns),
        products(shortcut + (s.has_shortcut ? kWarpRows * columns : 0)),
        gradient(products + kWarpRows * stride),
        end(gradient + kImageThreads) {
    const int64_t products_end = products + s.parts * kWarpRows * stride;
    const int64_t gradient_end = s.gradient_parts == 1 ? 0 : gradient + s.gradient_parts * kWarpRows * s.depth();
    end = products_end > end ? products_end : end;
    end = gradient_end > end ? gradient_end : end;
  }

  constexpr int64_t tables() const { return kImageWarps * sizeof(double); }
  constexpr int64_t values() const { return tables() + (columns + rows) * sizeof(int); }
  constexpr int64_t bytes() const { return values() + end * sizeof(real_t); }
};

}  // namespace fsc::device
