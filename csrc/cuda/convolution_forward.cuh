// A layer's outputs as products of tiles with what follows them: for teacher and student at once, or for the student
// against a target that is stored; no ATen here.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/convolution_slabs.cuh"
#include "cuda/cross_distill_kernels.cuh"

namespace fsc::device {

// Of a tile with so many filters.
constexpr int pixels_of_tile(int filters) { return filters < kTile ? 2 * kTile : kTile; }

// Of a layer's kernel on a multiprocessor: two networks have twice the sums.
constexpr int blocks_of_layer(int networks) { return networks == 1 ? kTileBlocks : 2; }

// In so many pieces a tile is finished where its products are split: a block for each.
constexpr int pieces_of_tile(int filters) { return filters < kTile / 2 ? 4 : 8; }

// With two networks the first is the teacher; with one the target is stored.
template <typename scalar_t, int networks>
struct LayerPointers {
  const scalar_t* input[networks];    // [N, C_in, H, W]
  const scalar_t* weight[networks];   // [C_out, kH kW C_in]
  const scalar_t* bias[networks];     // [C_out] or null
  scalar_t* residual;                 // [N, C_out, H_out, W_out]
  double* sums;                       // [tiles], of pieces where there are splits
  wide_t<scalar_t>* parts;            // [splits, tiles, networks, entries, threads], where there are splits
  wide_t<scalar_t> mix[networks][2];  // the shares of both inputs in what a network sees
  Epilogue epilogue;
  Deal deal;
  const scalar_t* target;    // [N, C_out, H_out, W_out], activated already
  const scalar_t* shortcut;  // likewise, added before the activation, or null
  const scalar_t* share;     // [N], the weight of every image, or null
};

template <typename real_t, int networks, Copies copies, int filters>
struct LayerMemory {
  static constexpr bool kTransposed = copies == Copies::kPixels;
  static constexpr int kPixels = pixels_of_tile(filters);
  struct Stage {
    Lines<real_t, filters> weight[networks];
    std::conditional_t<kTransposed, Columns<real_t, kPixels>, Lines<real_t, kPixels>> input[networks];
  } stages[kStages];
  Pixel pixels[kPixels];
  Row rows[2][kSlab<real_t>];  // of the slabs under way
};

template <typename real_t, int filters>
struct FinishMemory {
  double scratch[kTileThreads / kWarp];
  Pixel pixels[pixels_of_tile(filters)];
};

template <typename real_t, int filters>
using LayerSums = Sums<real_t, filters, pixels_of_tile(filters)>;

// The pixels of a tile; read behind a barrier.
template <int count>
FSC_DEVICE void locate(const Convolution& c, int64_t tile, Pixel (&pixels)[count]) {
  const Spot first = Spot::of(c, tile * count);
  if (thread() < count) pixels[thread()] = pixel_of(c, first.moved(c, thread()));
}

// The products of the networks' weights with their inputs over the slabs of a split. Two inputs are mixed on their way
// from a slab to the tensor cores.
template <typename scalar_t, typename real_t, int networks, Copies copies, int filters>
FSC_DEVICE void convolve(const LayerPointers<scalar_t, networks>& p, const Convolution& c, int first_filter, int split,
                         LayerMemory<real_t, networks, copies, filters>& memory,
                         LayerSums<real_t, filters> (&sums)[networks]) {
  using Memory = LayerMemory<real_t, networks, copies, filters>;
  constexpr int width = kCopyWidth<copies, real_t>, depth = kSlab<real_t>;
  const int begin = p.deal.first(split) * depth;
  if (thread() < depth) memory.rows[0][thread()] = row_of(c, begin + thread());
  barrier();
  const auto fill = [&](int64_t s, auto& stage) {
    const int first_row = begin + static_cast<int>(s) * depth;
    FSC_UNROLL
    for (int n = 0; n < networks; ++n) {
      if constexpr (copies == Copies::kChannels) {
        fetch_by<width, filters>(p.weight[n], c.filters, c.rows, first_filter, first_row, stage.weight[n]);
      } else {
        fetch_any<filters>(p.weight[n], c.filters, c.rows, first_filter, first_row, stage.weight[n]);
      }
    }
    deal_out<copies, width, Memory::kPixels, depth>(
        memory.pixels, memory.rows[s % 2], [&](int column, int k, const Pixel& pixel, const Row& row) {
          const bool inside = pixel.sees(row, c);
          FSC_UNROLL
          for (int n = 0; n < networks; ++n) {
            place<width>(Memory::kTransposed ? &stage.input[n][k][column] : &stage.input[n][column][k],
                         address(p.input[n], pixel, row), inside);
          }
        });
    if (thread() < depth) memory.rows[(s + 1) % 2][thread()] = row_of(c, first_row + depth + thread());
  };
  pipeline(memory.stages, p.deal.count(split), fill, [&](const auto& stage) {
    FSC_UNROLL
    for (int n = 0; n < networks; ++n) {
      multiply<networks == 1 && kIsTf32<scalar_t>>(
          [&](int row, int k) { return stage.weight[n][row][k]; },
          [&](int column, int k) -> real_t {
            const real_t x = element<Memory::kTransposed>(stage.input[0], column, k);
            if constexpr (networks == 1) return x;
            const real_t student = element<Memory::kTransposed>(stage.input[networks - 1], column, k);
            return multiply_add(p.mix[n][0], x, p.mix[n][1] * student);
          },
          sums[n]);
    }
  });
}

// The filters that a thread's sums belong to: their numbers, and their offsets in the output, negative beyond the last.
template <typename Part>
struct Filters {
  static constexpr int kCount = Part::kRowSums * 2;
  int number[kCount], offset[kCount];

  FSC_DEVICE Filters(const Convolution& c, int first, const Part& sums) {
    FSC_UNROLL
    for (int i = 0; i < kCount; ++i) {
      number[i] = first + sums.row(i);
      offset[i] = number[i] < c.filters ? number[i] * c.output_strides[0] : -1;
    }
  }

  // Calls visit(sum, index of its filter here, pixel) for every element that the output has.
  template <typename Visit>
  FSC_DEVICE void visit(Part& sums, const Pixel* pixels, const Visit& visit) const {
    FSC_UNROLL
    for (int across = 0; across < Part::kColumnSums * 2; ++across) {
      const Pixel pixel = pixels[sums.column(across)];
      if (pixel.image < 0) continue;
      FSC_UNROLL
      for (int i = 0; i < kCount; ++i) {
        if (offset[i] >= 0) visit(sums.values[i / 2][across / 2][i % 2 * 2 + across % 2], i, pixel);
      }
    }
  }
};

// Leaves the residual of a tile, or of a piece of one, and the sum of its squares.
template <typename scalar_t, int networks, typename Part>
FSC_DEVICE void finish(const LayerPointers<scalar_t, networks>& p, const Convolution& c, int first_filter,
                       const Pixel* pixels, Part (&sums)[networks]) {
  using real_t = wide_t<scalar_t>;
  Part& student = sums[networks - 1];
  const Filters<Part> mine(c, first_filter, student);
  FSC_UNROLL
  for (int n = 0; n < networks; ++n) {
    if (p.bias[n] == nullptr) continue;
    mine.visit(sums[n], pixels,
               [&](real_t& s, int i, const Pixel&) { s += static_cast<real_t>(p.bias[n][mine.number[i]]); });
  }
  if (networks == 1 && p.shortcut) {
    mine.visit(student, pixels, [&](real_t& s, int i, const Pixel& pixel) {
      s += static_cast<real_t>(p.shortcut[pixel.output + mine.offset[i]]);
    });
  }
  const auto flat = flat_up_to<real_t>(p.epilogue.relu), flat_target = flat_up_to<real_t>(p.epilogue.relu_target);
  double sum = 0;
  FSC_UNROLL
  for (int across = 0; across < Part::kColumnSums * 2; ++across) {
    const Pixel pixel = pixels[student.column(across)];
    if (pixel.image < 0) continue;
    real_t share = 1;
    if (networks == 1 && p.share) share = static_cast<real_t>(p.share[pixel.image]);
    FSC_UNROLL
    for (int i = 0; i < mine.kCount; ++i) {
      if (mine.offset[i] < 0) continue;
      const int64_t at = pixel.output + mine.offset[i];
      const int down = i / 2, entry = i % 2 * 2 + across % 2;
      real_t target = sums[0].values[down][across / 2][entry];
      if constexpr (networks == 1) target = static_cast<real_t>(p.target[at]);
      const auto compared = compare(student.values[down][across / 2][entry], target, flat, flat_target);
      sum += static_cast<double>(share) * compared.square();
      p.residual[at] = static_cast<scalar_t>(share * compared.residual);
    }
  }
  sum = block_sum(sum, shared<double>());
  if (thread() == 0) p.sums[block_y() * num_blocks() + block()] = sum;
}

// The entry of this thread's part of a split; they lie num_threads() apart.
template <int filters, typename scalar_t, int networks>
FSC_DEVICE wide_t<scalar_t>* part_of(const LayerPointers<scalar_t, networks>& p, int filter_tiles, int filter_tile,
                                     int split) {
  constexpr int entries = LayerSums<wide_t<scalar_t>, filters>::kEntries;
  const int64_t tile = (static_cast<int64_t>(split) * filter_tiles + filter_tile) * num_blocks() + block();
  return p.parts + tile * networks * entries * kTileThreads + thread();
}

// Neither a mixture nor, where there is one split, a preactivation reaches memory: blocks [pixel tiles, splits of
// filter tiles].
template <typename scalar_t, int networks, Copies copies, int filters>
FSC_KERNEL(kTileThreads, blocks_of_layer(networks))
layer_kernel(LayerPointers<scalar_t, networks> p, Convolution c, int filter_tiles) {
  using real_t = wide_t<scalar_t>;
  auto& memory = *shared<LayerMemory<real_t, networks, copies, filters>>();
  const int split = static_cast<int>(block_y()) / filter_tiles;
  const int filter_tile = static_cast<int>(block_y()) - split * filter_tiles;
  LayerSums<real_t, filters> sums[networks];
  FSC_UNROLL
  for (int n = 0; n < networks; ++n) sums[n].clear();
  locate(c, block(), memory.pixels);
  convolve<scalar_t, real_t, networks, copies, filters>(p, c, filter_tile * filters, split, memory, sums);
  FSC_UNROLL
  for (int n = 0; n < networks; ++n) sums[n].settle();
  if (p.deal.splits == 1) return finish(p, c, filter_tile * filters, memory.pixels, sums);
  real_t* part = part_of<filters>(p, filter_tiles, filter_tile, split);
  FSC_UNROLL
  for (int n = 0; n < networks; ++n) {
    FSC_UNROLL
    for (int e = 0; e < sums[n].kEntries; ++e) part[(n * sums[n].kEntries + e) * kTileThreads] = sums[n].entry(e);
  }
}

// One of the products of 16 x 8 of a thread's sums.
template <typename real_t, int filters>
struct Piece {
  using Whole = LayerSums<real_t, filters>;
  static constexpr int kRowSums = 1, kColumnSums = 1, kEntries = 4;
  static_assert(pieces_of_tile(filters) * kEntries == Whole::kEntries);
  real_t values[1][1][kEntries];
  int number;

  FSC_DEVICE int row(int i) const { return Whole::row(number / Whole::kColumnSums * 2 + i); }
  FSC_DEVICE int column(int i) const { return Whole::column(number % Whole::kColumnSums * 2 + i); }
};

// The products of all splits, in their order, and what follows them: blocks [pixel tiles, pieces of filter tiles].
template <typename scalar_t, int networks, int filters>
FSC_KERNEL(kTileThreads)
finish_layer_kernel(LayerPointers<scalar_t, networks> p, Convolution c, int filter_tiles) {
  using real_t = wide_t<scalar_t>;
  using Part = Piece<real_t, filters>;
  constexpr int pieces = pieces_of_tile(filters);
  auto& memory = *shared<FinishMemory<real_t, filters>>();
  const int filter_tile = static_cast<int>(block_y()) / pieces;
  const int piece = static_cast<int>(block_y()) - filter_tile * pieces;
  Part sums[networks];
  FSC_UNROLL
  for (int n = 0; n < networks; ++n) sums[n] = {{}, piece};
  locate(c, block(), memory.pixels);
  FSC_ROLLED
  for (int split = 0; split < p.deal.splits; ++split) {
    const real_t* part = part_of<filters>(p, filter_tiles, filter_tile, split);
    FSC_UNROLL
    for (int n = 0; n < networks; ++n) {
      FSC_UNROLL
      for (int e = 0; e < Part::kEntries; ++e) {
        sums[n].values[0][0][e] += part[((n * pieces + piece) * Part::kEntries + e) * kTileThreads];
      }
    }
  }
  barrier();
  finish(p, c, filter_tile * filters, memory.pixels, sums);
}

}  // namespace fsc::device
