// Winograd's passes for AVX-512.
#include "cpu/winograd.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#include <immintrin.h>

#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma")

#include "cpu/winograd_instances.h"

namespace {

struct Avx512 {
  using Vector = __m512;
  static constexpr int kLanes = 16;
  // Of 32 registers, 26 hold sums, 2 filters.
  static constexpr int kRows = 13;
  static constexpr int kOuterRows = 8;

  static Vector load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
  static Vector all(float value) { return _mm512_set1_ps(value); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace

const fsc::winograd::Passes* const fsc::winograd::avx512 = kBothSizes<Avx512>;

#else

const fsc::winograd::Passes* const fsc::winograd::avx512 = nullptr;

#endif
