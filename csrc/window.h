// The window of a convolution, as im2col sees it on every device.
#pragma once

#include <cstdint>

namespace fsc {

// How the kernel moves along one axis of the image.
struct Axis {
  int64_t kernel, stride, padding, dilation;

  int64_t outputs(int64_t size) const {
    const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
  }
  bool trivial() const { return kernel == 1 && stride == 1 && padding == 0; }
};

struct Window {
  Axis height, width;

  int64_t taps() const { return height.kernel * width.kernel; }
  bool trivial() const { return height.trivial() && width.trivial(); }
};

}  // namespace fsc
