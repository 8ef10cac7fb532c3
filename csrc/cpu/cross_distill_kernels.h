// The element-wise inner loops of cross distillation, over blocks that fit the first cache.
#pragma once

#include <cstdint>

#include "cpu/clones.h"

namespace fsc {

// Elements handled at a time: a block stays in the first cache, and the sums of blocks are added in order,
// whatever the number of threads.
constexpr int64_t kBlock = 1024;
constexpr int64_t kLanes = 16;
static_assert(kBlock % kLanes == 0);

template <typename scalar_t>
FSC_CLONES void mix_block(const scalar_t* teacher, const scalar_t* student, scalar_t* mixture, int64_t count,
                          scalar_t teacher_share, scalar_t student_share) {
  for (int64_t i = 0; i < count; ++i) mixture[i] = teacher_share * teacher[i] + student_share * student[i];
}

// residual = act'(S) (act(S) - T), with T activated first where kReluTarget; returns the sum of
// (act(S) - T)^2 over at most kBlock elements, as kLanes interleaved sums: one order that vectorises.
// residual may be the memory of preactivation.
template <typename scalar_t, bool kRelu, bool kReluTarget>
FSC_CLONES double residual_block(const scalar_t* preactivation, const scalar_t* target, scalar_t* residual,
                                 int64_t count) {
  scalar_t difference[kBlock];
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    // Compared as x <= 0, so that NaN stays NaN.
    const scalar_t s = preactivation[i];
    const scalar_t t = target[i];
    const scalar_t activated = kRelu && s <= 0 ? scalar_t{0} : s;
    difference[i] = activated - (kReluTarget && t <= 0 ? scalar_t{0} : t);
    residual[i] = kRelu && s <= 0 ? scalar_t{0} : difference[i];
  }
  for (int64_t i = count; i % kLanes != 0; ++i) difference[i] = 0;
  double sums[kLanes] = {};
  for (int64_t i = 0; i < count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double wide = difference[i + lane];
      sums[lane] += wide * wide;
    }
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace fsc
