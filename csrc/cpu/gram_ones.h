// The row of ones of a Gram matrix: what the columns sum up to.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cpu/gram_correlation.h"
#include "cpu/gram_displacement.h"
#include "cpu/gram_images.h"

namespace fsc {

// sums [channels, taps] += the columns' sums: of every tap, over the pixels that it sees.
inline void add_tap_sums(const InterleavedImages& images, const Products& products, std::vector<double>& sums) {
  const auto unmoved = [](const Displacement& d) { return d.shift == 0; };
  const auto vertical = std::find_if(products.vertical.begin(), products.vertical.end(), unmoved);
  const auto horizontal = std::find_if(products.horizontal.begin(), products.horizontal.end(), unmoved);
  if (vertical == products.vertical.end() || horizontal == products.horizontal.end()) return;
  at::parallel_for(0, images.blocks(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      for (const auto& h : horizontal->pairs) {
        const int64_t left = horizontal->cuts[h.first], right = horizontal->cuts[h.last];
        for (int64_t y = vertical->cuts.front(); y < vertical->cuts.back(); ++y) {
          const std::array<double, kSide> line = images.sums_of_line(block, y, left, right);
          for (const auto& v : vertical->pairs) {
            if (y < vertical->cuts[v.first] || y >= vertical->cuts[v.last]) continue;
            const int64_t tap = v.row * products.taps_across + h.row;
            for (int64_t c = 0; c < images.channels(block); ++c)
              sums[(block * kSide + c) * products.taps + tap] += line[c];
          }
        }
      }
    }
  });
}

// The last row of `gram` += sums, and its last entry += count; or the last column.
inline void add_last(const at::Tensor& gram, const std::vector<double>& sums, bool column, double count) {
  const int64_t size = static_cast<int64_t>(sums.size()), stride = gram.size(1);
  AT_DISPATCH_FLOATING_TYPES(gram.scalar_type(), kGramOp, [&] {
    scalar_t* to = gram.data_ptr<scalar_t>() + (column ? stride - 1 : (gram.size(0) - 1) * stride);
    for (int64_t i = 0; i < size; ++i) to[column ? i * stride : i] += static_cast<scalar_t>(sums[i]);
    to[column ? size * stride : size] += static_cast<scalar_t>(count);
  });
}

}  // namespace fsc
