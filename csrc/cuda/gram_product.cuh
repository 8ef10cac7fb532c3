// How slabs of the Gram kernels lie in shared memory.
#pragma once

#include "cuda/tile.cuh"

namespace fsc::device {

// Values from line to line: of a slab whose lines are rows, and of one that is turned, whose lines are columns.
template <typename real_t>
constexpr int kStraightLine = sizeof(Slab<real_t>) / kTile / sizeof(real_t);
constexpr int kTurnedLine = kTile + 8;
static_assert(sizeof(Slab<float>) == kSlab<float> * kTurnedLine * sizeof(float));
static_assert(sizeof(Slab<double>) == kSlab<double> * kTurnedLine * sizeof(double));

}  // namespace fsc::device
