// Winograd's passes for AVX2.
#include "cpu/winograd.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#include <immintrin.h>

#pragma GCC target("avx2,fma")

#include "cpu/winograd_instances.h"

namespace {

struct Avx2 {
  using Vector = __m256;
  static constexpr int kLanes = 8;
  // Of 16 registers, 12 hold sums, 2 filters.
  static constexpr int kRows = 6;
  static constexpr int kOuterRows = 4;

  static Vector load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
  static Vector all(float value) { return _mm256_set1_ps(value); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace

const fsc::winograd::Passes* const fsc::winograd::avx2 = kBothSizes<Avx2>;

#else

const fsc::winograd::Passes* const fsc::winograd::avx2 = nullptr;

#endif
