// BatchNorm written into the convolution before it, on the device; no ATen here.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fsc {

// A convolution and the BatchNorm after it. Vectors are [C_out]; those that a layer may lack are null then.
template <typename scalar_t>
struct Fuse {
  const scalar_t* weight;  // [C_out, inner] in memory
  const scalar_t* bias;
  const scalar_t* mean;
  const scalar_t* variance;
  const scalar_t* gain;
  const scalar_t* shift;
  scalar_t* fused_weight;  // [C_out, inner]
  scalar_t* fused_bias;
  int64_t channels;
  int64_t inner;
  double eps;
};

namespace device {

constexpr int kFuseThreads = 256;

template <typename scalar_t>
FSC_DEVICE double value_or(const scalar_t* vector, int64_t i, double absent) {
  return vector ? static_cast<double>(vector[i]) : absent;
}

// One block a channel, in float64 throughout and rounded once.
template <typename scalar_t, int width>
FSC_KERNEL(kFuseThreads)
fuse_conv_bn_kernel(Fuse<scalar_t> layer) {
  for (int64_t c = block(); c < layer.channels; c += num_blocks()) {
    const double spread = static_cast<double>(layer.variance[c]) + layer.eps;
    // The host cannot refuse a spread that it does not wait for: NaN says that there was none.
    const double scale =
        spread > 0 ? value_or(layer.gain, c, 1.0) / std::sqrt(spread) : std::numeric_limits<double>::quiet_NaN();
    if (thread() == 0) {
      const double centred = value_or(layer.bias, c, 0.0) - static_cast<double>(layer.mean[c]);
      layer.fused_bias[c] = static_cast<scalar_t>(centred * scale + value_or(layer.shift, c, 0.0));
    }
    const scalar_t* source = layer.weight + c * layer.inner;
    scalar_t* destination = layer.fused_weight + c * layer.inner;
    // Where width is above 1 it divides `inner`, so that every channel starts on a whole vector.
    for (int64_t i = thread() * width; i < layer.inner; i += num_threads() * width) {
      scalar_t values[width];
      load<width>(source + i, width, values);
      FSC_UNROLL
      for (int v = 0; v < width; ++v) values[v] = static_cast<scalar_t>(static_cast<double>(values[v]) * scale);
      store<width>(destination + i, width, values);
    }
  }
}

}  // namespace device
}  // namespace fsc
