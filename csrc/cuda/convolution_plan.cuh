// How convolutions are given to a GPU: their geometry from tensors, the way that values are copied, tiles and splits.
#pragma once

#include <ATen/core/Tensor.h>

#include <bit>

#include "cross_distill.h"
#include "cuda/convolution_gradient.cuh"
#include "cuda/launch.cuh"

namespace fsc {

// ---- geometry ----

inline device::Divisor divisor_of(int64_t value) {
  const int shift = 31 + std::bit_width(static_cast<uint64_t>(value - 1));
  const uint64_t one = uint64_t{1} << shift, by = static_cast<uint64_t>(value);
  return {static_cast<uint32_t>(one / by + (one % by != 0)), shift};
}

// How far an image's offsets reach, in elements, with what is padded; not less than any of its extents.
inline int64_t reach_of(const at::Tensor& images, at::IntArrayRef padding) {
  int64_t reach = images.size(1) * images.stride(1);
  for (int64_t d = 0; d < 2; ++d) {
    reach += (images.size(d + 2) + 2 * padding[d]) * std::max<int64_t>(images.stride(d + 2), 1);
  }
  return reach;
}

// The most that it can be where the images are dense.
inline int64_t dense_reach(at::IntArrayRef shape, at::IntArrayRef padding) {
  const int64_t row = shape[1] * shape[3];
  return shape[2] * row + (shape[2] + 2 * padding[0]) * row + (shape[3] + 2 * padding[1]) * shape[1];
}

// Whether the kernels' 32 bits hold all that they must: whatever lies within an image, and the weight. How many pixels
// all images have does not matter.
inline bool fits_kernels(const ConvGeometry& conv, int64_t images, int64_t reach_bytes, int64_t output_bytes,
                         int64_t weights) {
  return std::max({images, reach_bytes, output_bytes, weights, conv.stride[0], conv.stride[1], conv.dilation[0],
                   conv.dilation[1]}) < (int64_t{1} << 30);
}

// The geometry of a convolution without groups; `output` lends its strides.
inline device::Convolution convolution_of(const ConvGeometry& conv, const at::Tensor& input, const at::Tensor& weight,
                                          const at::Tensor& output) {
  TORCH_CHECK(fits_kernels(conv, input.size(0), reach_of(input, conv.padding) * input.element_size(),
                           reach_of(output, {0, 0}) * output.element_size(), weight.numel()),
              "fsc_ext: an image and its output must hold fewer than 2^30 bytes and a weight fewer than 2^30 values, "
              "got input ",
              input.sizes(), ", output ", output.sizes(), " and weight ", weight.sizes());
  const auto number = [](int64_t value) { return static_cast<int>(value); };
  const auto size = [&](const at::Tensor& tensor, int64_t d) { return number(tensor.size(d)); };
  device::Convolution c{size(input, 0),  size(input, 1),  size(input, 2),  size(input, 3), size(weight, 0),
                        size(output, 2), size(output, 3), size(weight, 2), size(weight, 3)};
  for (int d = 0; d < 2; ++d) {
    c.stride[d] = number(conv.stride[d]);
    c.padding[d] = number(conv.padding[d]);
    c.dilation[d] = number(conv.dilation[d]);
  }
  for (int d = 0; d < 3; ++d) {
    c.input_strides[d] = number(input.stride(d + 1) * input.element_size());
    c.output_strides[d] = number(output.stride(d + 1));
  }
  c.input_image = input.stride(0) * input.element_size();
  c.output_image = output.stride(0);
  c.plane = c.out_height * c.out_width;
  c.rows = number(weight.numel() / std::max<int64_t>(weight.size(0), 1));
  c.by_plane = divisor_of(c.plane);
  c.by_out_width = divisor_of(c.out_width);
  c.by_channels = divisor_of(std::max(c.channels, 1));
  c.by_kernel_width = divisor_of(c.kernel_width);
  return c;
}

inline int64_t pixels_of(const device::Convolution& c) { return static_cast<int64_t>(c.images) * c.plane; }

// ---- copies ----

// Whether a copy of `width` values may begin at every channel that is a multiple of them.
template <typename... Pointers>
bool begin_together(int64_t width, const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % (width * sizeof(Pointers)) == 0) && ...);
}

// How a layer's inputs can be copied; strides are in units of `element` bytes.
inline bool has_neighbouring_channels(int64_t channels, int64_t image, const int (&strides)[3], int64_t element,
                                      int64_t width) {
  return channels % width == 0 && strides[0] == element && strides[1] % (element * width) == 0 &&
         strides[2] % (element * width) == 0 && image % (element * width) == 0;
}

template <typename scalar_t>
constexpr int kChannelsAtOnce = kVectorWidth<device::wide_t<scalar_t>>;

template <typename scalar_t>
bool input_has_neighbouring_channels(const device::Convolution& c) {
  return has_neighbouring_channels(c.channels, c.input_image, c.input_strides, sizeof(scalar_t),
                                   kChannelsAtOnce<scalar_t>);
}

template <typename scalar_t>
bool output_has_neighbouring_channels(const device::Convolution& c) {
  return has_neighbouring_channels(c.filters, c.output_image, c.output_strides, 1, kChannelsAtOnce<scalar_t>);
}

// ---- tiles and splits ----

// What a block does at least, and what it costs beside its slabs, in slabs.
constexpr int64_t kLeastSlabs = 2;
constexpr int64_t kBlockCost = 6;
constexpr int64_t kMostWaves = 6;

// Splits of every tile's slabs: all blocks that run at the same time, `blocks` a multiprocessor, are a wave, and one
// more block a whole further wave. So those are compared that fill a number of waves; more of them must save a fifth,
// as their sums go through memory.
inline device::Deal deal_of(int64_t slabs, int64_t tiles, int blocks) {
  const int64_t wave = blocks * multiprocessors(), most = std::max<int64_t>(slabs / kLeastSlabs, 1);
  int64_t best = 1, least = 0;
  for (int64_t waves = 1; waves <= kMostWaves; ++waves) {
    const int64_t splits = std::clamp<int64_t>(waves * wave / std::max<int64_t>(tiles, 1), 1, most);
    const int64_t cost = ceil_div(tiles * splits, wave) * (ceil_div(slabs, splits) + kBlockCost);
    if (waves == 1 || 5 * cost < 4 * least) best = splits, least = cost;
  }
  return {static_cast<int>(best), static_cast<int>(slabs / best), static_cast<int>(slabs % best)};
}

// Filters of a tile: narrow layers have narrow tiles, where the precision is that of training.
template <typename scalar_t>
int tile_filters(int filters) {
  if (!std::is_same_v<scalar_t, float> || filters > 32) return device::kTile;
  return filters > 16 ? 32 : 16;
}

template <typename scalar_t>
struct LayerPlan {
  LayerPlan(const device::Convolution& c, int networks)
      : filters(tile_filters<scalar_t>(c.filters)),
        pixel_tiles(ceil_div(pixels_of(c), device::pixels_of_tile(filters))),
        filter_tiles(static_cast<int>(ceil_div(c.filters, filters))),
        deal(deal_of(device::slabs_of<device::wide_t<scalar_t>>(c.rows), tiles(), device::blocks_of_layer(networks))) {}

  int64_t tiles() const { return pixel_tiles * filter_tiles; }
  int pieces() const { return deal.splits == 1 ? 1 : device::pieces_of_tile(filters); }
  // One partial loss each.
  int64_t sums() const { return tiles() * pieces(); }
  // Partial sums.
  int64_t parts(int networks) const {
    if (deal.splits == 1) return 0;
    return deal.splits * tiles() * networks * filters * device::pixels_of_tile(filters);
  }

  int filters;
  int64_t pixel_tiles;
  int filter_tiles;
  device::Deal deal;
};

template <typename scalar_t>
struct GradientPlan {
  explicit GradientPlan(const device::Convolution& c)
      : filters(tile_filters<scalar_t>(c.filters)),
        row_tiles(static_cast<int>(ceil_div(c.rows, device::pixels_of_tile(filters)))),
        tiles(row_tiles * ceil_div(c.filters, filters)),
        deal(deal_of(device::slabs_of<device::wide_t<scalar_t>>(pixels_of(c)), tiles, device::kTileBlocks)) {}

  int filters;
  int row_tiles;
  int64_t tiles;
  device::Deal deal;
};

}  // namespace fsc
