// Rows and columns of im2col on the device: what a thread must know to copy its elements without a division. Rows are
// read off a table in shared memory, columns off a cursor that moves by sums and comparisons.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/device.cuh"
#include "window.h"

namespace fsc::device {

// Two coordinates in one word, y in the upper half and x in the lower one: one sum moves both, and one test compares
// both with their bounds.
template <typename index_t>
using word_t = std::make_unsigned_t<index_t>;
template <typename index_t>
constexpr int kHalf = 4 * sizeof(index_t);  // bits

// Above every coordinate, and so is it less a shift; coordinates and shifts are below half of it.
template <typename index_t>
constexpr index_t kFar = index_t{1} << (kHalf<index_t> - 2);

template <typename index_t>
FSC_DEVICE word_t<index_t> word_of(index_t y, index_t x) {
  return (static_cast<word_t<index_t>>(y) << kHalf<index_t>)+static_cast<word_t<index_t>>(x);
}

// The rows of im2col that one network's images give: [count + ones, N * H_out * W_out].
template <typename scalar_t, typename index_t>
struct Features {
  const scalar_t* data;  // [N, C, H, W], in any layout
  index_t strides[4];
  const int64_t* chosen;  // the channels that count, null where all do
  int channels;           // C
  int count;              // channels that count * taps
  bool ones;              // a last row of ones
};

// Where a row looks from the pixel that the window stands at.
template <typename index_t>
struct alignas(2 * sizeof(index_t)) GramRow {
  index_t offset;
  word_t<index_t> shift;
};

// Where a slab's column of this thread stands: in both networks, and how far coordinates are from their bounds.
template <typename index_t>
struct Column {
  index_t student, teacher;
  word_t<index_t> below, above;
  bool real;  // false past the last image

  // Whether the pixel of a row is in the image: a half of a word is negative where it is not.
  FSC_DEVICE bool holds(word_t<index_t> shift) const {
    constexpr word_t<index_t> sign = word_t<index_t>{1} << (kHalf<index_t> - 1);
    return (((below - shift) | (above + shift)) & (sign << kHalf<index_t> | sign)) == 0;
  }
};

// A walk over output pixels: how many there are and how far a step goes.
template <typename index_t>
struct Pixels {
  index_t images, height, width;              // of the output
  index_t step_images, step_lines, step_one;  // a step as whole images, whole lines and what is left
};

// The images that all rows read.
template <typename index_t>
struct Geometry {
  Pixels<index_t> pixels;
  index_t height, width;  // of an image
  Window window;
};

template <typename index_t>
struct Cursor {
  index_t image, y, x;

  FSC_DEVICE Cursor(const Pixels<index_t>& pixels, int64_t column) {
    const int64_t line = column / pixels.width;
    x = static_cast<index_t>(column - line * pixels.width);
    image = static_cast<index_t>(line / pixels.height);
    y = static_cast<index_t>(line - static_cast<int64_t>(image) * pixels.height);
  }

  FSC_DEVICE void step(const Pixels<index_t>& pixels) {
    x += pixels.step_one;
    const bool next_line = x >= pixels.width;
    if (next_line) x -= pixels.width;
    y += pixels.step_lines + (next_line ? 1 : 0);
    const bool next_image = y >= pixels.height;
    if (next_image) y -= pixels.height;
    image += pixels.step_images + (next_image ? 1 : 0);
  }
};

// kTurned: rows are counted tap by tap, in each channel by channel, and not the other way round.
template <bool kTurned, typename scalar_t, typename index_t>
FSC_DEVICE GramRow<index_t> row_at(const Features<scalar_t, index_t>& features, const Window& window, int r) {
  const GramRow<index_t> nowhere{0, word_of<index_t>(kFar<index_t>, 0)};
  if (r < 0 || r >= features.count) return nowhere;
  const int across = static_cast<int>(window.width.kernel), taps = static_cast<int>(window.height.kernel) * across;
  const int of_all = kTurned ? r % features.channels : r / taps;
  const int64_t channel = features.chosen == nullptr ? of_all : features.chosen[of_all];
  if (channel < 0 || channel >= features.channels) return nowhere;
  const int tap = kTurned ? r / features.channels : r % taps;
  const auto down = static_cast<index_t>(tap / across * window.height.dilation - window.height.padding);
  const auto right = static_cast<index_t>(tap % across * window.width.dilation - window.width.padding);
  return {
      static_cast<index_t>(channel) * features.strides[1] + down * features.strides[2] + right * features.strides[3],
      word_of(down, right)};
}

// kWindow: false where a row is its channel, pixel for pixel, so that nothing is compared but the end of the images.
template <bool kWindow, typename scalar_t, typename index_t>
FSC_DEVICE Column<index_t> column_at(const Features<scalar_t, index_t>& student,
                                     const Features<scalar_t, index_t>& teacher, const Geometry<index_t>& geometry,
                                     const Cursor<index_t>& cursor) {
  constexpr index_t most = (index_t{1} << (kHalf<index_t> - 1)) - 1;
  const bool real = cursor.image < geometry.pixels.images;
  const index_t y = kWindow ? cursor.y * static_cast<index_t>(geometry.window.height.stride) : cursor.y;
  const index_t x = kWindow ? cursor.x * static_cast<index_t>(geometry.window.width.stride) : cursor.x;
  const auto place = [&](const Features<scalar_t, index_t>& features) {
    return cursor.image * features.strides[0] + y * features.strides[2] + x * features.strides[3];
  };
  const word_t<index_t> here = word_of<index_t>(real ? (kWindow ? y : 0) : kFar<index_t>, kWindow ? x : 0);
  const word_t<index_t> room = kWindow ? word_of<index_t>(geometry.height - 1, geometry.width - 1) : 0;
  return {place(student), place(teacher), word_of(most, most) - here, word_of(most, most) - room + here, real};
}

}  // namespace fsc::device
