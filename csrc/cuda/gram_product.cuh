// Products of slabs that are turned: a line holds all rows of one column. What tile.cuh is for the others.
#pragma once

#include "cuda/device.cuh"
#include "cuda/tensor_cores.cuh"
#include "cuda/tile.cuh"

namespace fsc::device {

// Values from line to line: 8 more than rows keep the fragments of a warp in different banks.
constexpr int kTurnedLine = kTile + 8;
static_assert(sizeof(Slab<float>) == kSlab<float> * kTurnedLine * sizeof(float));
static_assert(sizeof(Slab<double>) == kSlab<double> * kTurnedLine * sizeof(double));

// sums += left right^T over one slab.
template <bool kExact>
FSC_DEVICE void multiply_turned(const Slab<float>& left, const Slab<float>& right, Sums<float>& sums) {
  const int warp = thread() / kWarp;
  const float *a = &left[0][0] + warp / 2 * 32, *b = &right[0][0] + warp % 2 * 32;
  multiply_fragments<kExact>([&](int row, int k) { return a[k * kTurnedLine + row]; },
                             [&](int k, int column) { return b[k * kTurnedLine + column]; }, 0, kSlab<float>,
                             sums.values);
}

template <bool kExact>
FSC_DEVICE void multiply_turned(const Slab<double>& left, const Slab<double>& right, Sums<double>& sums) {
  const double *a = &left[0][0], *b = &right[0][0];
  for (int k = 0; k < kSlab<double>; ++k) {
    sums.visit([&](int row, int column, double& sum) {
      sum = multiply_add(a[k * kTurnedLine + row], b[k * kTurnedLine + column], sum);
    });
  }
}

}  // namespace fsc::device
