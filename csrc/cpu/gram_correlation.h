// Products of 16 channels with 16 others, summed over pixels: the one loop in which a Gram matrix of
// displaced images spends its time. Channels stand innermost, so that a displacement is an offset.
#pragma once

#include <cstdint>

namespace fsc {

// The channels that stand side by side.
constexpr int64_t kSide = 16;
constexpr int64_t kTile = kSide * kSide;
// Products that one float32 sum takes up: the error of a sum grows with the root of their number.
constexpr int64_t kDepth = 32;

// Whether this machine has the instructions that make it faster than a library's product.
bool correlates_fast();

// Where correlates_fast() alone: sums [16, 16] += left^T right for left and right [count, 16]; `count` is at most
// kDepth.
void correlate(const float* left, const float* right, int64_t count, float* sums);

// total += sums, which start anew; kTile each.
void flush(float* sums, double* total);

// Writes `count` pixels of 16 channels, whose rows begin at `channels`, as [count, 16] with `stride` elements from
// pixel to pixel.
void interleave(const float* const* channels, int64_t count, float* pixels, int64_t stride);

}  // namespace fsc
