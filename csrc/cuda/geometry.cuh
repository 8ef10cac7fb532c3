// The geometry of a convolution on the device: where the pixels of its output and the rows of its im2col matrix lie.
// Within an image 32 bits hold every offset, which the host checks, and nothing is divided in a loop; no ATen here.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"

namespace fsc::device {

// A divisor that the host knows: quotients of numbers in [0, 2^31), exact, by a multiplication.
struct Divisor {
  uint32_t multiplier;
  int shift;

  FSC_DEVICE int quotient(int number) const {
    return static_cast<int>(static_cast<uint64_t>(static_cast<uint32_t>(number)) * multiplier >> shift);
  }
};

// A convolution without groups. Strides are in bytes for the input and in elements for the output: from image to image,
// and c, y, x.
struct Convolution {
  int images, channels, height, width;
  int filters, out_height, out_width;
  int kernel_height, kernel_width;
  int stride[2], padding[2], dilation[2];
  int64_t input_image, output_image;
  int input_strides[3];
  int output_strides[3];
  int plane;  // out_height out_width
  int rows;   // of the im2col matrix, kernel_height kernel_width channels: those of a tap are neighbours
  Divisor by_plane, by_out_width, by_channels, by_kernel_width;
};

// A coordinate that is nowhere in an image, whatever is added to it.
constexpr int kOutside = -(1 << 30);

// A row of the im2col matrix, from the top left corner of what a pixel sees; its offset in bytes.
struct alignas(16) Row {
  int offset, y, x;
};

FSC_DEVICE Row row_of(const Convolution& c, int number) {
  if (number >= c.rows) return {0, kOutside, kOutside};
  const int tap = c.by_channels.quotient(number), down = c.by_kernel_width.quotient(tap);
  const int y = down * c.dilation[0], x = (tap - down * c.kernel_width) * c.dilation[1];
  const int channel = number - tap * c.channels;
  return {channel * c.input_strides[0] + y * c.input_strides[1] + x * c.input_strides[2], y, x};
}

// A pixel of the output: the top left corner of what it sees, in bytes of the input, and where it lies itself.
struct alignas(16) Pixel {
  int64_t input;
  int y, x;
  int64_t output;
  int image;  // negative beyond the last

  FSC_DEVICE bool sees(const Row& row, const Convolution& c) const {
    const bool high = static_cast<unsigned>(y + row.y) < static_cast<unsigned>(c.height);
    const bool wide = static_cast<unsigned>(x + row.x) < static_cast<unsigned>(c.width);
    return static_cast<int>(high) & static_cast<int>(wide);  // no branch
  }
};

template <typename scalar_t>
FSC_DEVICE const scalar_t* moved(const scalar_t* from, int64_t bytes) {
  return reinterpret_cast<const scalar_t*>(reinterpret_cast<const char*>(from) + bytes);
}

template <typename scalar_t>
FSC_DEVICE const scalar_t* address(const scalar_t* input, const Pixel& pixel, const Row& row) {
  return moved(moved(input, pixel.input), row.offset);
}

// A pixel by the number of its image and its own within that.
struct Spot {
  int image, inside;

  FSC_DEVICE static Spot of(const Convolution& c, int64_t number) {
    const int64_t image = number / c.plane;
    return {static_cast<int>(image), static_cast<int>(number - image * c.plane)};
  }
  FSC_DEVICE Spot moved(const Convolution& c, int by) const {
    const int further = c.by_plane.quotient(inside + by);
    return {image + further, inside + by - further * c.plane};
  }
};

FSC_DEVICE Pixel pixel_of(const Convolution& c, const Spot& spot) {
  if (spot.image >= c.images) return {0, kOutside, kOutside, 0, -1};
  const int y = c.by_out_width.quotient(spot.inside), x = spot.inside - y * c.out_width;
  const int top = y * c.stride[0] - c.padding[0], left = x * c.stride[1] - c.padding[1];
  const int64_t corner =
      static_cast<int64_t>(top) * c.input_strides[1] + static_cast<int64_t>(left) * c.input_strides[2];
  return {spot.image * c.input_image + corner, top, left,
          spot.image * c.output_image + y * c.output_strides[1] + x * c.output_strides[2], spot.image};
}

// Slabs dealt out to splits as evenly as they go.
struct Deal {
  int splits;
  int each;
  int more;  // of the splits have one beyond that

  FSC_DEVICE int first(int split) const { return split * each + (split < more ? split : more); }
  FSC_DEVICE int count(int split) const { return each + (split < more ? 1 : 0); }
};

}  // namespace fsc::device
