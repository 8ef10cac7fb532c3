// Launches of the fused convolutions.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <type_traits>

#include "cuda/convolution_plan.cuh"

namespace fsc {

// What a block may have on every GPU from sm_80 on.
constexpr size_t kCommonSharedBytes = 99 << 10;

// Calls use(way of copying, filters of a tile), both as types; other types than float32 have one way and one tile.
template <typename scalar_t, typename Use>
void with_tile(bool channels, int filters, const Use& use) {
  using device::Copies;
  const auto with_copies = [&](auto tile) {
    if constexpr (std::is_same_v<scalar_t, float>) {
      if (channels) return use(std::integral_constant<Copies, Copies::kChannels>(), tile);
    }
    use(std::integral_constant<Copies, Copies::kPixels>(), tile);
  };
  if constexpr (std::is_same_v<scalar_t, float>) {
    if (filters == 16) return with_copies(std::integral_constant<int, 16>());
    if (filters == 32) return with_copies(std::integral_constant<int, 32>());
  }
  with_copies(std::integral_constant<int, device::kTile>());
}

// The layer's residual and the sums of its squares, one a tile.
template <typename scalar_t, int networks>
void launch_layer(device::LayerPointers<scalar_t, networks> p, const device::Convolution& c,
                  const LayerPlan<scalar_t>& plan) {
  using real_t = device::wide_t<scalar_t>;
  constexpr int last = networks - 1, width = kChannelsAtOnce<scalar_t>;
  p.deal = plan.deal;
  const bool channels = input_has_neighbouring_channels<scalar_t>(c) &&
                        begin_together(width, p.input[0], p.input[last], p.weight[0], p.weight[last]);
  with_tile<scalar_t>(channels, plan.filters, [&](auto copies, auto filters) {
    using Memory = device::LayerMemory<real_t, networks, copies(), filters()>;
    static_assert(sizeof(Memory) <= kCommonSharedBytes);
    const Grid grid{plan.pixel_tiles, device::kTileThreads, sizeof(Memory),
                    static_cast<int64_t>(plan.filter_tiles) * plan.deal.splits};
    launch<true>(grid, device::layer_kernel<scalar_t, networks, copies(), filters()>, p, c, plan.filter_tiles);
    if (plan.deal.splits == 1) return;
    using Finish = device::FinishMemory<real_t, filters()>;
    launch<true>({plan.pixel_tiles, device::kTileThreads, sizeof(Finish), int64_t{plan.filter_tiles} * plan.pieces()},
                 device::finish_layer_kernel<scalar_t, networks, filters()>, p, c, plan.filter_tiles);
  });
}

// What follows the sum of a gradient's splits.
template <typename scalar_t>
struct GradientScale {
  double scale;
  const scalar_t* factor;  // or null
  bool taps_last;          // the gradient is [C_out, C_in, kH, kW], not [C_out, kH, kW, C_in]
};

template <typename scalar_t>
void launch_add_splits(const device::wide_t<scalar_t>* parts, int splits, const device::Convolution& c,
                       const GradientScale<scalar_t>& by, scalar_t* gradient) {
  constexpr int kGroups = 8;
  const int64_t numel = static_cast<int64_t>(c.filters) * c.rows;
  const int taps = by.taps_last ? c.kernel_height * c.kernel_width : 0;
  const auto add = [&](auto groups) {
    const int64_t bytes = groups() > 1 ? device::kMixThreads * sizeof(*parts) : 0;
    launch<groups() != 1>({ceil_div(numel * groups(), device::kMixThreads), device::kMixThreads, bytes},
                          device::add_splits_kernel<scalar_t, groups()>, parts, splits, c, divisor_of(c.rows), taps,
                          by.scale, by.factor, gradient);
  };
  splits > kGroups ? add(std::integral_constant<int, kGroups>()) : add(std::integral_constant<int, 1>());
}

// gradient = scale * factor * residual times im2col; `parts` holds [splits, gradient].
template <typename scalar_t, int inputs>
void launch_weight_gradient(device::GradientPointers<scalar_t, inputs> p, const device::Convolution& c,
                            const GradientPlan<scalar_t>& plan, const GradientScale<scalar_t>& by, scalar_t* gradient) {
  using real_t = device::wide_t<scalar_t>;
  p.deal = plan.deal;
  const bool channels = input_has_neighbouring_channels<scalar_t>(c) && output_has_neighbouring_channels<scalar_t>(c) &&
                        begin_together(kChannelsAtOnce<scalar_t>, p.input[0], p.input[inputs - 1], p.residual);
  with_tile<scalar_t>(channels, plan.filters, [&](auto copies, auto filters) {
    using Memory = device::GradientMemory<real_t, inputs, copies(), filters()>;
    static_assert(sizeof(Memory) <= kCommonSharedBytes);
    launch<true>({plan.tiles, device::kTileThreads, sizeof(Memory), plan.deal.splits},
                 device::weight_gradient_kernel<scalar_t, inputs, copies(), filters()>, p, c, plan.row_tiles);
  });
  launch_add_splits<scalar_t>(p.parts, plan.deal.splits, c, by, gradient);
}

// Compiled once, by cross_distill.cu, for all who launch them.
#define FSC_LAUNCH_PLAIN_GRADIENT(scalar_t)                                                                      \
  template void fsc::launch_weight_gradient(fsc::device::GradientPointers<scalar_t, 1>,                          \
                                            const fsc::device::Convolution&, const fsc::GradientPlan<scalar_t>&, \
                                            const fsc::GradientScale<scalar_t>&, scalar_t*);
#define FSC_LAUNCH_PLAIN_GRADIENTS()  \
  FSC_LAUNCH_PLAIN_GRADIENT(float)    \
  FSC_LAUNCH_PLAIN_GRADIENT(double)   \
  FSC_LAUNCH_PLAIN_GRADIENT(at::Half) \
  FSC_LAUNCH_PLAIN_GRADIENT(at::BFloat16)

}  // namespace fsc

extern FSC_LAUNCH_PLAIN_GRADIENT(float) extern FSC_LAUNCH_PLAIN_GRADIENT(double) extern FSC_LAUNCH_PLAIN_GRADIENT(
    at::Half) extern FSC_LAUNCH_PLAIN_GRADIENT(at::BFloat16)
