// BatchNorm written into the convolution before it, for many layers at once on the device; no ATen here.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/reduce.cuh"
#include "cuda/table.cuh"

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
  bool wide;  // accesses of 16 bytes; every channel then starts on a whole vector
};

namespace device {

constexpr int kFuseThreads = 256;
constexpr int kManyLayers = 40;

template <typename scalar_t, int capacity>
using FuseTable = Table<Fuse<scalar_t>, capacity>;
static_assert(sizeof(FuseTable<double, kManyLayers>) <= kParameterBytes);

template <typename scalar_t>
FSC_DEVICE double value_or(const scalar_t* vector, int64_t i, double absent) {
  return vector ? static_cast<double>(vector[i]) : absent;
}

template <int width, typename scalar_t>
FSC_DEVICE void scale_channel(const scalar_t* source, double scale, scalar_t* destination, int64_t size) {
  for (int64_t i = thread() * width; i < size; i += num_threads() * width) {
    scalar_t values[width];
    load<width>(source + i, width, values);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) values[v] = static_cast<scalar_t>(static_cast<double>(values[v]) * scale);
    store<width>(destination + i, width, values);
  }
}

// One block a channel, in float64 throughout and rounded once.
template <typename scalar_t, int capacity>
FSC_KERNEL(kFuseThreads)
fuse_conv_bn_kernel(FuseTable<scalar_t, capacity> table) {
  const Place place = place_in(table);
  const Fuse<scalar_t>& layer = table.rows[place.row];
  for (int64_t c = place.share.block; c < layer.channels; c += place.share.blocks) {
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
    layer.wide ? scale_channel<kVectorWidth<scalar_t>>(source, scale, destination, layer.inner)
               : scale_channel<1>(source, scale, destination, layer.inner);
  }
}

}  // namespace device
}  // namespace fsc
