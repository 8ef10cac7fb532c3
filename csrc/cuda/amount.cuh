// What a proximal operator takes away by, known to the host or not, and what goes with a weight that goes.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"

namespace fsc::device {

// A threshold or a number of weights that the host knows, or one that lies on the device.
struct Amount {
  double value;
  const double* on_device;

  FSC_DEVICE double get() const { return on_device ? *on_device : value; }
};

// What a kernel finds as threshold where nothing goes.
constexpr double kNothingGoes = -1;

// Where it is written which values stay, and what becomes zero with those that go; null where there is nothing.
template <typename value_t>
struct Kept {
  uint8_t* keep;
  value_t* cleared[3];

  FSC_DEVICE void write(int64_t i, bool stays) const {
    if (keep) keep[i] = stays;
    if (stays) return;
    FSC_UNROLL
    for (int c = 0; c < 3; ++c) {
      if (cleared[c]) cleared[c][i] = value_t(0);
    }
  }
};

}  // namespace fsc::device
