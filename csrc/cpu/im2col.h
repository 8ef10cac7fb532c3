// Columns of im2col, in the row order of torch.nn.functional.unfold, one row at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "window.h"

namespace fsc {

// The range of columns that a panel holds, counted from the first output pixel of a chunk of images.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// One row of im2col: `channel` as one tap of the kernel sees it, for the columns in `range`.
template <typename scalar_t>
void fill_row(const scalar_t* channel, int64_t image_stride, int64_t height, int64_t width, const Window& window,
              int64_t tap, Range range, scalar_t* row) {
  const Axis& vertical = window.height;
  const Axis& horizontal = window.width;
  const int64_t out_height = vertical.outputs(height), out_width = horizontal.outputs(width);
  const int64_t top = tap / horizontal.kernel * vertical.dilation - vertical.padding;
  const int64_t left = tap % horizontal.kernel * horizontal.dilation - horizontal.padding;
  const int64_t step = horizontal.stride;
  // Output pixels [inside.begin, inside.end) of a line see the image, the others its zero padding.
  const auto first_at_least = [&](int64_t x) {
    return std::clamp<int64_t>((x - left + step - 1) / step, 0, out_width);
  };
  const Range inside{left >= 0 ? 0 : first_at_least(0), width <= left ? 0 : first_at_least(width)};

  int64_t image = range.begin / (out_height * out_width);
  int64_t oh = range.begin / out_width % out_height, ow = range.begin % out_width;
  for (int64_t remaining = range.size(); remaining > 0;) {
    const int64_t stop = std::min(out_width, ow + remaining);
    remaining -= stop - ow;
    const int64_t ih = oh * vertical.stride + top;
    const bool visible = ih >= 0 && ih < height;
    const int64_t begin = visible ? std::clamp(inside.begin, ow, stop) : stop;
    const int64_t end = visible ? std::clamp(inside.end, begin, stop) : stop;
    for (; ow < begin; ++ow) *row++ = 0;
    if (begin < end) {
      const scalar_t* line = channel + image * image_stride + ih * width + left;
      if (step == 1) {
        row = std::copy_n(line + ow, end - begin, row);
      } else {
        for (int64_t o = begin; o < end; ++o) *row++ = line[o * step];
      }
    }
    for (ow = end; ow < stop; ++ow) *row++ = 0;
    ow = 0;
    if (++oh == out_height) oh = 0, ++image;
  }
}

}  // namespace fsc
