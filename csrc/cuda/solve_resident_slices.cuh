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

// Where everything lies in shared memory: behind the scratch of sums, two tables of offsets and then numbers, which are
// counted here. An element of the im2col matrix of a slice is input[taps[row] + pixels[column]].
struct ImagesLayout {
  int columns;        // pixels of a slice, to the next multiple; the table of pixels is as long
  int rows;           // rows of the im2col matrix, likewise
  int weight_stride;  // weight [16, weight_stride], behind input [images, C_in, seen height, seen width]
  int stride;         // products [parts, 16, stride]; the residual comes to lie in the first
  int weight, target, shortcut, products;  // the two in the middle are [16, columns]
  int gradient;                            // [gradient_parts, 16, depth] behind the residual, or a number a thread
  int products_end, gradient_end, end;

  explicit constexpr ImagesLayout(const Slices& s)
      : columns(round_up(s.pixels(), kImageColumns)),
        rows(round_up(s.depth(), kImageColumns)),
        weight_stride(stride_of(s.depth())),
        stride(columns + 4),
        weight(s.slice_images * s.channels * s.seen_height() * s.seen_width()),
        target(weight + kWarpRows * weight_stride),
        shortcut(target + kWarpRows * columns),
        products(shortcut + (s.has_shortcut ? kWarpRows * columns : 0)),
        gradient(products + kWarpRows * stride),
        products_end(products + s.parts * kWarpRows * stride),
        gradient_end(s.gradient_parts == 1 ? 0 : gradient + s.gradient_parts * kWarpRows * s.depth()),
        end(gradient + kImageThreads) {
    end = products_end > end ? products_end : end;
    end = gradient_end > end ? gradient_end : end;
  }

  static constexpr int tables() { return kImageWarps * sizeof(double); }
  constexpr int numbers() const { return tables() + (columns + rows) * static_cast<int>(sizeof(int)); }
  template <typename real_t>
  constexpr int64_t bytes() const {
    return numbers() + end * static_cast<int64_t>(sizeof(real_t));
  }
};

}  // namespace fsc::device
