// Sums over a block in a fixed order, and the types that sums are held in.
#pragma once

#include "cuda/device.cuh"

namespace fsc::device {

// Half precision is summed in float32; float32 too, within a thread and a warp's turn of it.
template <typename scalar_t>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};
template <typename scalar_t>
using wide_t = typename Wide<scalar_t>::type;

// A value as it comes back from memory.
template <typename scalar_t>
FSC_DEVICE wide_t<scalar_t> as_stored(wide_t<scalar_t> value) {
  return static_cast<wide_t<scalar_t>>(static_cast<scalar_t>(value));
}

// The sum over all threads of a block whose numbers are the same modulo `apart`, a power of two up to a warp's, for
// each of them; `scratch` holds `apart` values a warp.
template <int apart = 1>
FSC_DEVICE double block_sum(double value, double* scratch) {
  for (int lanes = kWarp / 2; lanes >= apart; lanes /= 2) value += shuffle_xor(value, lanes);
  const int warps = num_threads() / kWarp, lane = thread() % kWarp, own = thread() % apart;
  barrier();  // the scratch may still be read for the sum before
  if (lane < apart) scratch[thread() / kWarp * apart + own] = value;
  barrier();
  double total = 0;
  for (int w = 0; w < warps; ++w) total += scratch[w * apart + own];
  return total;
}

}  // namespace fsc::device
