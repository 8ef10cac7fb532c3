// Launches of the fused convolutions, from tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "cross_distill.h"
#include "cuda/convolution_kernels.cuh"
#include "cuda/launch.cuh"

namespace fsc {

// Enough splits of the pixels to fill a GPU when a gradient has few tiles, and few enough to add up quickly.
constexpr int64_t kMostSplits = 32;
constexpr int64_t kPixelsOfSplit = 2048;
constexpr int64_t kFullGpu = 256;

// What a block may have on every GPU from sm_80 on.
constexpr size_t kCommonSharedBytes = 99 << 10;

// The geometry of a convolution without groups; `output` lends its strides.
inline device::Convolution convolution_of(const ConvGeometry& conv, const at::Tensor& input, const at::Tensor& weight,
                                          const at::Tensor& output) {
  device::Convolution c{input.size(0),  input.size(1),  input.size(2),  input.size(3), weight.size(0),
                        output.size(2), output.size(3), weight.size(2), weight.size(3)};
  for (int d = 0; d < 2; ++d) {
    c.stride[d] = conv.stride[d];
    c.padding[d] = conv.padding[d];
    c.dilation[d] = conv.dilation[d];
  }
  for (int d = 0; d < 4; ++d) {
    c.input_strides[d] = input.stride(d);
    c.output_strides[d] = output.stride(d);
  }
  return c;
}

inline int64_t rows_of(const device::Convolution& c) { return c.channels * c.kernel_height * c.kernel_width; }
inline int64_t pixels_of(const device::Convolution& c) { return c.images * c.out_height * c.out_width; }

// One block for 64 pixels and 64 filters; its number of blocks is the number of partial losses.
template <typename Memory>
Grid output_grid(const device::Convolution& c) {
  static_assert(sizeof(Memory) <= kCommonSharedBytes);
  return {ceil_div(pixels_of(c), device::kTile), device::kTileThreads, static_cast<int64_t>(sizeof(Memory)),
          ceil_div(c.filters, device::kTile)};
}

// How the gradient of a weight is cut into tiles and ranges of pixels.
struct GradientPlan {
  explicit GradientPlan(const device::Convolution& c)
      : row_tiles(ceil_div(rows_of(c), device::kTile)),
        tiles(row_tiles * ceil_div(c.filters, device::kTile)),
        splits(std::clamp<int64_t>(
            std::min(ceil_div(pixels_of(c), kPixelsOfSplit), ceil_div(kFullGpu, std::max<int64_t>(tiles, 1))), 1,
            kMostSplits)),
        split_pixels(ceil_div(ceil_div(pixels_of(c), splits), device::kSlab<float>) * device::kSlab<float>) {}

  int64_t row_tiles;
  int64_t tiles;
  int64_t splits;
  int64_t split_pixels;
};

// gradient [C_out, C_in kH kW] = scale * factor * residual times im2col; `parts` holds [splits, gradient].
template <typename scalar_t>
void launch_weight_gradient(device::GradientPointers<scalar_t> p, const device::Convolution& c,
                            const GradientPlan& plan, double scale, const scalar_t* factor, scalar_t* gradient) {
  p.split_pixels = plan.split_pixels;
  const int64_t bytes = sizeof(device::StoredMemory<device::wide_t<scalar_t>>);
  launch<true>({plan.tiles, device::kTileThreads, bytes, plan.splits}, device::weight_gradient_kernel<scalar_t>, p, c,
               plan.row_tiles);
  const int64_t numel = c.filters * rows_of(c);
  launch<false>(grid_over(numel, device::kMixThreads), device::add_splits_kernel<scalar_t>, p.parts, plan.splits, numel,
                scale, factor, gradient);
}

}  // namespace fsc
