// The gradient of a convolution's weight as products of tiles; no ATen here.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/convolution_forward.cuh"

namespace fsc::device {

// With two inputs the student sees their mixture.
template <typename scalar_t, int inputs>
struct GradientPointers {
  const scalar_t* input[inputs];  // [N, C_in, H, W]
  const scalar_t* residual;       // [N, C_out, H_out, W_out]
  wide_t<scalar_t>* parts;        // [splits, C_out, kH kW C_in]
  wide_t<scalar_t> mix[2];        // the shares of two inputs
  Deal deal;                      // slabs of pixels
};

// Slabs with the pixels as lines, where copies are of channels, or as what is summed over within lines.
template <typename real_t, int inputs, Copies copies, int filters>
struct GradientMemory {
  static constexpr bool kTransposed = copies == Copies::kChannels;
  static constexpr int kRows = pixels_of_tile(filters);
  template <int lines>
  using Operand = std::conditional_t<kTransposed, Columns<real_t, lines>, Lines<real_t, lines>>;
  struct Stage {
    Operand<filters> residual;
    Operand<kRows> input[inputs];
  } stages[kStages];
  Row rows[kRows];
  Row filter_rows[filters];        // of the residual
  Pixel pixels[2][kSlab<real_t>];  // of the slabs under way
};

// Residual times im2col transposed, over the pixels of a split.
template <typename scalar_t, typename real_t, int inputs, Copies copies, int filters>
FSC_DEVICE void correlate(const GradientPointers<scalar_t, inputs>& p, const Convolution& c, int split,
                          GradientMemory<real_t, inputs, copies, filters>& memory, LayerSums<real_t, filters>& sums) {
  using Memory = GradientMemory<real_t, inputs, copies, filters>;
  constexpr bool kTransposed = Memory::kTransposed;
  constexpr int width = kCopyWidth<copies, real_t>, depth = kSlab<real_t>;
  Spot spot = Spot::of(c, (static_cast<int64_t>(p.deal.first(split)) * depth)).moved(c, thread());
  if (thread() < depth) memory.pixels[0][thread()] = pixel_of(c, spot);
  barrier();
  const auto fill = [&](int64_t s, auto& stage) {
    const Pixel* pixels = memory.pixels[s % 2];
    deal_out<copies, width, depth, Memory::kRows>(
        pixels, memory.rows, [&](int k, int row, const Pixel& pixel, const Row& at) {
          const bool inside = pixel.sees(at, c);
          FSC_UNROLL
          for (int n = 0; n < inputs; ++n) {
            place<width>(kTransposed ? &stage.input[n][k][row] : &stage.input[n][row][k],
                         address(p.input[n], pixel, at), inside);
          }
        });
    deal_out<copies, width, depth, filters>(
        pixels, memory.filter_rows, [&](int k, int filter, const Pixel& pixel, const Row& at) {
          place<width>(kTransposed ? &stage.residual[k][filter] : &stage.residual[filter][k],
                       moved(p.residual + pixel.output, at.offset), pixel.image >= 0 && at.y == 0);
        });
    spot = spot.moved(c, depth);
    if (thread() < depth) memory.pixels[(s + 1) % 2][thread()] = pixel_of(c, spot);
  };
  pipeline(memory.stages, p.deal.count(split), fill, [&](const auto& stage) {
    multiply<inputs == 1 && kIsTf32<scalar_t>>(
        [&](int row, int k) { return element<kTransposed>(stage.residual, row, k); },
        [&](int column, int k) -> real_t {
          const real_t x = element<kTransposed>(stage.input[0], column, k);
          if constexpr (inputs == 1) return x;
          return multiply_add(p.mix[0], x, p.mix[1] * element<kTransposed>(stage.input[inputs - 1], column, k));
        },
        sums);
  });
}

// One tile of the gradient for one range of pixels: blocks [tiles, splits].
template <typename scalar_t, int inputs, Copies copies, int filters>
FSC_KERNEL(kTileThreads, kTileBlocks)
weight_gradient_kernel(GradientPointers<scalar_t, inputs> p, Convolution c, int row_tiles) {
  using real_t = wide_t<scalar_t>;
  using Memory = GradientMemory<real_t, inputs, copies, filters>;
  auto& memory = *shared<Memory>();
  const int filter_tile = static_cast<int>(block()) / row_tiles, split = static_cast<int>(block_y());
  const int first_filter = filter_tile * filters;
  const int first_row = (static_cast<int>(block()) - filter_tile * row_tiles) * Memory::kRows;
  LayerSums<real_t, filters> sums;
  sums.clear();
  if (thread() < Memory::kRows) memory.rows[thread()] = row_of(c, first_row + thread());
  if (thread() < filters) {
    const int filter = first_filter + thread();
    const int stride = c.output_strides[0] * static_cast<int>(sizeof(scalar_t));
    memory.filter_rows[thread()] = filter < c.filters ? Row{filter * stride, 0, 0} : Row{0, kOutside, 0};
  }
  correlate<scalar_t, real_t, inputs, copies, filters>(p, c, split, memory, sums);
  sums.settle();
  real_t* part = p.parts + static_cast<int64_t>(split) * c.filters * c.rows;
  sums.visit([&](int row, int column, real_t& sum) {
    const int filter = first_filter + row, k = first_row + column;
    if (filter < c.filters && k < c.rows) part[static_cast<int64_t>(filter) * c.rows + k] = sum;
  });
}

// gradient = scale * sum of the splits in their order, times a factor that only the device knows where there is one;
// written with the taps of a channel as neighbours where `taps` says how many those are. With several groups of threads
// each sums a range of the splits.
template <typename scalar_t, int groups>
FSC_KERNEL(kMixThreads)
add_splits_kernel(const wide_t<scalar_t>* parts, int splits, Convolution c, Divisor by_rows, int taps, double scale,
                  const scalar_t* factor, scalar_t* gradient) {
  using real_t = wide_t<scalar_t>;
  constexpr int width = kMixThreads / groups;
  const int64_t numel = static_cast<int64_t>(c.filters) * c.rows;
  const int group = thread() / width, each = (splits + groups - 1) / groups;
  const int64_t i = block() * width + thread() % width;
  const int end = (group + 1) * each < splits ? (group + 1) * each : splits;
  real_t sum = 0;
  if (i < numel) {
    for (int s = group * each; s < end; ++s) sum += parts[s * numel + i];
  }
  if constexpr (groups > 1) {
    real_t* sums = shared<real_t>();
    sums[thread()] = sum;
    barrier();
    FSC_UNROLL
    for (int g = 1; g < groups; ++g) sum += sums[g * width + thread() % width];
  }
  if (group > 0 || i >= numel) return;
  const int filter = by_rows.quotient(static_cast<int>(i)), row = static_cast<int>(i) - filter * c.rows;
  const int tap = c.by_channels.quotient(row);
  const int64_t to = taps == 0 ? i : i - row + (row - tap * c.channels) * taps + tap;
  const real_t by = static_cast<real_t>(scale) * (factor ? static_cast<real_t>(*factor) : real_t(1));
  gradient[to] = static_cast<scalar_t>(by * sum);
}

// [C_out, kH kW, C_in] from [C_out, C_in, kH kW].
template <typename scalar_t>
FSC_KERNEL(kMixThreads)
taps_first_kernel(const scalar_t* weight, Convolution c, Divisor by_rows, int taps, scalar_t* ordered) {
  stride_over<1>(static_cast<int64_t>(c.filters) * c.rows, [&](int64_t i, int) {
    const int row = static_cast<int>(i) - by_rows.quotient(static_cast<int>(i)) * c.rows;
    const int tap = c.by_channels.quotient(row);
    ordered[i] = weight[i - row + (row - tap * c.channels) * taps + tap];
  });
}

}  // namespace fsc::device
