// All steps of a small layer on cached inputs and targets in one launch: images stay in the shared memory of the
// blocks, and so does the weight between its steps. No ATen here.
#pragma once

#include <cstdint>

#include "cuda/cross_distill_kernels.cuh"
#include "cuda/solve_resident_slices.cuh"

namespace fsc::device {

// Output channels are independent problems: each group of 16 has blocks of its own, one a slice, which add up their
// gradients and wait for nobody else. Images lie in memory by pixel: [N, H, W, C].
template <typename scalar_t>
struct ResidentImages {
  const scalar_t* input;     // [N, H, W, C_in]
  const scalar_t* target;    // [N, H_out, W_out, C_out], activated already
  const scalar_t* shortcut;  // likewise, added before the activation, or null
  const scalar_t* share;     // [N], the weight of every image, or null
  const scalar_t* bias;      // [C_out] or null
  scalar_t* weight;          // [C_out, depth]
  scalar_t* first;           // likewise: exp_avg, or the momentum's buffer, or null
  scalar_t* second;          // likewise: exp_avg_sq, or null
  wide_t<scalar_t>* parts;   // [groups, splits, 16, depth]
  unsigned* arrivals;        // [groups]
  ManySteps<wide_t<scalar_t>> many;
  Slices slices;
  ImagesLayout layout;
  bool relu;
};

// The slice and the filters of this block.
template <typename scalar_t>
struct ImagesBlock {
  using real_t = wide_t<scalar_t>;
  const ResidentImages<scalar_t>& p;
  const Slices& s;
  const ImagesLayout& layout;
  int split, first_filter, num_filters;
  int first_image, num_images, first_row, num_rows, num_pixels;

  FSC_DEVICE explicit ImagesBlock(const ResidentImages<scalar_t>& all) : p(all), s(all.slices), layout(all.layout) {
    split = static_cast<int>(block() % s.splits);
    first_filter = static_cast<int>(block() / s.splits) * kWarpRows;
    num_filters = at_most(s.filters - first_filter, kWarpRows);
    first_image = split / s.bands() * s.slice_images;
    num_images = at_most(s.images - first_image, s.slice_images);
    first_row = split % s.bands() * s.slice_rows;
    num_rows = at_most(s.out_height - first_row, s.slice_rows);
    num_pixels = num_images * num_rows * s.out_width;
  }

  FSC_DEVICE static int at_most(int count, int most) { return count < most ? count : most; }

  // Addresses are made where they are needed, which takes fewer registers than to keep them.
  FSC_DEVICE int* pixels() const { return reinterpret_cast<int*>(shared<unsigned char>() + layout.tables()); }
  FSC_DEVICE int* taps() const { return pixels() + layout.columns; }
  FSC_DEVICE real_t* input() const { return reinterpret_cast<real_t*>(shared<unsigned char>() + layout.numbers()); }
  FSC_DEVICE real_t* weight() const { return input() + layout.weight; }
  FSC_DEVICE real_t* target() const { return input() + layout.target; }
  FSC_DEVICE real_t* shortcut() const { return input() + layout.shortcut; }
  FSC_DEVICE real_t* products() const { return input() + layout.products; }
  FSC_DEVICE real_t* gradient() const { return input() + layout.gradient; }

  // Both tables go on with zeros: what is read there is multiplied by zero or not stored.
  FSC_DEVICE void load_tables() const {
    const int height = s.seen_height(), width = s.seen_width(), plane = num_rows * s.out_width;
    for (int i = thread(); i < layout.columns; i += kImageThreads) {
      const int y = i % plane / s.out_width * s.stride[0], x = i % s.out_width * s.stride[1];
      pixels()[i] = i < num_pixels ? (i / plane * s.channels * height + y) * width + x : 0;
    }
    const int window = s.kernel_height * s.kernel_width;
    for (int k = thread(); k < layout.rows; k += kImageThreads) {
      const int y = k % window / s.kernel_width * s.dilation[0], x = k % s.kernel_width * s.dilation[1];
      taps()[k] = k < s.depth() ? (k / window * height + y) * width + x : 0;
    }
  }

  FSC_DEVICE void load_input() const {
    const int height = s.seen_height(), width = s.seen_width();
    for (int i = thread(); i < num_images * height * width * s.channels; i += kImageThreads) {
      const int c = i % s.channels, seen = i / s.channels, image = seen / (height * width);
      const int own_y = seen / width % height, own_x = seen % width;
      const int y = first_row * s.stride[0] - s.padding[0] + own_y, x = own_x - s.padding[1];
      const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
      const int64_t from = ((static_cast<int64_t>(first_image + image) * s.height + y) * s.width + x) * s.channels + c;
      input()[((image * s.channels + c) * height + own_y) * width + own_x] =
          inside ? static_cast<real_t>(p.input[from]) : real_t(0);
    }
  }

  // The pixels of a slice are neighbours in memory.
  FSC_DEVICE void load_outputs(const scalar_t* from, real_t* to) const {
    const int64_t first = (static_cast<int64_t>(first_image) * s.out_height + first_row) * s.out_width;
    for (int i = thread(); i < kWarpRows * num_pixels; i += kImageThreads) {
      const int filter = i % kWarpRows, pixel = i / kWarpRows;
      if (filter >= num_filters) continue;
      to[filter * layout.columns + pixel] =
          static_cast<real_t>(from[(first + pixel) * s.filters + first_filter + filter]);
    }
  }

  FSC_DEVICE void load_weight() const {
    const int filter = thread() / kWarp;
    if (filter >= num_filters) return;
    real_t* to = weight() + filter * layout.weight_stride;
    read_of_blocks(p.weight + static_cast<int64_t>(first_filter + filter) * s.depth(), s.depth(),
                   [&](int k, scalar_t value) { to[k] = static_cast<real_t>(value); });
  }

  FSC_DEVICE void load() const {
    load_tables();
    load_input();
    load_outputs(p.target, target());
    if (p.shortcut) load_outputs(p.shortcut, shortcut());
    for (int i = thread(); i < kWarpRows * layout.weight_stride; i += kImageThreads) weight()[i] = 0;
    barrier();
    load_weight();
    barrier();
  }

  FSC_DEVICE void convolve() const {
    const real_t *x = input(), *w = weight();
    const int *of_pixels = pixels(), *of_taps = taps();
    real_t* to = products();
    multiply_by_warps<kImageTiles, real_t>(
        num_pixels, layout.weight_stride - 4, s.parts,
        [&](int row, int k) { return w[row * layout.weight_stride + k]; },
        [&](int k, int column) { return x[of_taps[k] + of_pixels[column]]; },
        [&](int part, int row, int column, real_t sum) {
          to[(part * kWarpRows + row) * layout.stride + column] = sum;
        });
  }

  // Puts the residual in the place of the products, a filter a warp; returns this thread's share of the sum of squares.
  FSC_DEVICE double compare() const {
    double sum = 0;
    const int filter = thread() / kWarp;
    const bool used = filter < num_filters;
    const real_t bias = used && p.bias ? static_cast<real_t>(p.bias[first_filter + filter]) : real_t(0);
    for (int pixel = thread() % kWarp; pixel < layout.columns; pixel += kWarp) {
      real_t& place = products()[filter * layout.stride + pixel];
      if (!used || pixel >= num_pixels) {
        place = 0;
        continue;
      }
      real_t output = place;
      for (int part = 1; part < s.parts; ++part) output += (&place)[part * kWarpRows * layout.stride];
      output += bias;
      if (p.shortcut) output += shortcut()[filter * layout.columns + pixel];
      real_t share = 1;
      if (p.share) share = static_cast<real_t>(p.share[first_image + pixel / (s.slice_rows * s.out_width)]);
      const auto compared = device::compare(output, target()[filter * layout.columns + pixel], {p.relu, false});
      sum += static_cast<double>(share) * compared.square();
      place = share * compared.residual;
    }
    return sum;
  }

  // This slice's part of the gradient, for the other blocks.
  FSC_DEVICE void differentiate() const {
    const int depth = s.depth();
    real_t* part = p.parts + block() * kWarpRows * depth;
    real_t* to = s.gradient_parts == 1 ? part : gradient();
    const real_t *x = input(), *residual = products();
    const int *of_pixels = pixels(), *of_taps = taps();
    multiply_by_warps<kImageTiles, real_t>(
        depth, round_up(num_pixels, 8), s.gradient_parts,
        [&](int row, int k) { return residual[row * layout.stride + k]; },
        [&](int k, int column) { return x[of_taps[column] + of_pixels[k]]; },
        [&](int range, int row, int column, real_t sum) {
          if (column < depth) to[(range * kWarpRows + row) * depth + column] = sum;
        });
    if (s.gradient_parts == 1) return;
    barrier();
    for (int i = thread(); i < num_filters * depth; i += kImageThreads) {
      real_t sum = 0;
      for (int range = 0; range < s.gradient_parts; ++range) sum += gradient()[range * kWarpRows * depth + i];
      part[i] = sum;
    }
  }

  // The sum of the slices' parts of element i: those from `lane` on, every `lanes`-th.
  FSC_DEVICE real_t gather(int i, int lane, int lanes) const {
    constexpr int kOnTheirWay = 8;
    const int64_t size = static_cast<int64_t>(kWarpRows) * s.depth();
    const real_t* part = p.parts + (block() - split + lane) * size + i;
    real_t sum = 0;
    for (int left = s.splits - lane; left > 0; left -= kOnTheirWay * lanes) {
      real_t values[kOnTheirWay];
      FSC_UNROLL
      for (int v = 0; v < kOnTheirWay; ++v) {
        values[v] = v * lanes < left ? load_of_blocks(part) : real_t(0);
        part += lanes * size;
      }
      FSC_UNROLL
      for (int v = 0; v < kOnTheirWay; ++v) sum += values[v];
    }
    return sum;
  }

  // A step of this block's share of the filters' weights; every thread always has the same ones.
  FSC_DEVICE void update(const ScheduledStep& step) const {
    const int count = num_filters * s.depth(), share = (count + s.splits - 1) / s.splits;
    const int wide = at_most(round_up(share, kWarp), kImageThreads), lanes = kImageThreads / wide;
    const int lane = thread() / wide, end = at_most(count, (split + 1) * share);
    for (int first = split * share; first < end; first += wide) {
      const int i = first + thread() % wide;
      const bool used = i < end && lane < lanes;
      gradient()[thread()] = used ? gather(i, lane, lanes) : real_t(0);
      barrier();
      if (used && lane == 0) {
        real_t sum = 0;
        for (int other = 0; other < lanes; ++other) sum += gradient()[other * wide + thread()];
        change(static_cast<int64_t>(first_filter) * s.depth() + i, static_cast<real_t>(p.many.factor) * sum, step);
      }
      barrier();
    }
  }

  FSC_DEVICE void change(int64_t i, real_t g, const ScheduledStep& step) const {
    real_t first = p.first ? static_cast<real_t>(p.first[i]) : real_t(0);
    real_t second = p.second ? static_cast<real_t>(p.second[i]) : real_t(0);
    auto weight = static_cast<real_t>(p.weight[i]);
    p.many.template apply<scalar_t>(step, g, weight, first, second);
    p.weight[i] = static_cast<scalar_t>(weight);
    if (p.first) p.first[i] = static_cast<scalar_t>(first);
    if (p.second) p.second[i] = static_cast<scalar_t>(second);
  }
};

template <typename scalar_t>
FSC_KERNEL(kImageThreads)
resident_images_kernel(ResidentImages<scalar_t> p) {
  const ImagesBlock<scalar_t> own(p);
  unsigned* arrivals = p.arrivals + own.first_filter / kWarpRows;
  own.load();
  for (int64_t t = 0; t < p.many.num_steps; ++t) {
    const auto blocks = static_cast<unsigned>(p.slices.splits), before = static_cast<unsigned>(t) * 2 * blocks;
    own.convolve();
    barrier();
    const double sum = block_sum(own.compare(), shared<double>());
    if (thread() == 0) p.many.sums[t * num_blocks() + block()] = sum;
    own.differentiate();
    barrier_of_blocks(arrivals, before + blocks);
    own.update(p.many.steps[t]);
    barrier_of_blocks(arrivals, before + 2 * blocks);
    own.load_weight();
    barrier();
  }
}

}  // namespace fsc::device
