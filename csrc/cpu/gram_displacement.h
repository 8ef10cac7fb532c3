// Pairs of taps of a kernel that moves by single pixels, by how far they stand apart.
//
// Two taps t and u see the same pixels as any other two that are as far apart, up to the border: their product is a
// sum over the positions q that t sees, of x[q] y[q + shift]. So few sums make all of them: for 3x3 taps 25 shifts
// instead of 81 pairs, each cut where the range of a pair begins or ends.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "window.h"

namespace fsc {

// What pairs of taps of one axis share that are as far apart.
struct Displacement {
  // Taps `row` and `column`, whose sum is that of the segments in [first, last).
  struct Pair {
    int64_t row, column, first, last;
  };

  int64_t shift;
  std::vector<int64_t> cuts;  // segment s is the positions [cuts[s], cuts[s + 1])
  std::vector<Pair> pairs;

  int64_t segments() const { return static_cast<int64_t>(cuts.size()) - 1; }
};

// Of `axis`, whose stride is 1, over `size` pixels; without pairs that see zero padding alone.
inline std::vector<Displacement> displacements(const Axis& axis, int64_t size) {
  std::vector<Displacement> found;
  for (int64_t apart = 1 - axis.kernel; apart < axis.kernel; ++apart) {
    Displacement here{apart * axis.dilation, {}, {}};
    for (int64_t row = std::max<int64_t>(0, -apart); row < std::min(axis.kernel, axis.kernel - apart); ++row) {
      const int64_t left = row * axis.dilation - axis.padding;
      const int64_t begin = std::max({left, int64_t{0}, -here.shift});
      const int64_t end = std::min({left + axis.outputs(size), size, size - here.shift});
      if (begin < end) here.pairs.push_back({row, row + apart, begin, end});
    }
    if (here.pairs.empty()) continue;
    for (const auto& pair : here.pairs) here.cuts.insert(here.cuts.end(), {pair.first, pair.last});
    std::sort(here.cuts.begin(), here.cuts.end());
    here.cuts.erase(std::unique(here.cuts.begin(), here.cuts.end()), here.cuts.end());
    for (auto& pair : here.pairs) {
      for (int64_t* cut : {&pair.first, &pair.last}) {
        *cut = std::lower_bound(here.cuts.begin(), here.cuts.end(), *cut) - here.cuts.begin();
      }
    }
    found.push_back(std::move(here));
  }
  return found;
}

// One displacement along both axes; its sums are those of the regions that the cuts make, row by row.
struct Product {
  const Displacement *vertical, *horizontal;
  int64_t first_region;

  int64_t regions() const { return vertical->segments() * horizontal->segments(); }
};

// All of a window.
struct Products {
  Products(const Window& window, int64_t height, int64_t width)
      : width(width),
        taps_across(window.width.kernel),
        taps(window.taps()),
        vertical(displacements(window.height, height)),
        horizontal(displacements(window.width, width)) {
    for (const Displacement& v : vertical) {
      for (const Displacement& h : horizontal) {
        all.push_back({&v, &h, regions});
        regions += all.back().regions();
        if (v.shift < 0 || (v.shift == 0 && h.shift <= 0)) backward = static_cast<int64_t>(all.size());
      }
    }
  }
  Products(const Products&) = delete;

  int64_t width, taps_across, taps;
  std::vector<Displacement> vertical, horizontal;
  std::vector<Product> all;
  int64_t backward = 0;  // the first ones, which displace backward or not at all
  int64_t regions = 0;
};

}  // namespace fsc
