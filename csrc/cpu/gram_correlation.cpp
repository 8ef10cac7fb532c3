// Written for AVX-512 and AVX2: how many sums stay in registers differs, and contracted products, which
// the build does not ask for elsewhere, halve the time.
#include "cpu/gram_correlation.h"

#include <c10/util/Exception.h>

#include "cpu/clones.h"

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FSC_BY_HAND 1
#include <ATen/Version.h>
#include <immintrin.h>
#endif

namespace {

using fsc::kSide;

void interleave_plain(const float* const* channels, int64_t begin, int64_t count, float* pixels, int64_t stride) {
  for (int64_t p = begin; p < count; ++p) {
    for (int64_t c = 0; c < kSide; ++c) pixels[p * stride + c] = channels[c][p];
  }
}

#ifdef FSC_BY_HAND

__attribute__((target("avx512f"))) void correlate_512(const float* left, const float* right, int64_t count,
                                                      float* sums) {
  __m512 rows[kSide];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kSide; ++i) rows[i] = _mm512_setzero_ps();
  for (int64_t p = 0; p < count; ++p) {
    const __m512 b = _mm512_loadu_ps(right + p * kSide);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kSide; ++i) rows[i] = _mm512_fmadd_ps(_mm512_set1_ps(left[p * kSide + i]), b, rows[i]);
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < kSide; ++i) {
    float* sum = sums + i * kSide;
    _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), rows[i]));
  }
}

// Four rows at a time, as there are 16 registers.
__attribute__((target("avx2,fma"))) void correlate_256(const float* left, const float* right, int64_t count,
                                                       float* sums) {
  for (int64_t first = 0; first < kSide; first += 4) {
    __m256 rows[4][2];
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) rows[i][0] = rows[i][1] = _mm256_setzero_ps();
    for (int64_t p = 0; p < count; ++p) {
      const __m256 low = _mm256_loadu_ps(right + p * kSide), high = _mm256_loadu_ps(right + p * kSide + 8);
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        const __m256 a = _mm256_set1_ps(left[p * kSide + first + i]);
        rows[i][0] = _mm256_fmadd_ps(a, low, rows[i][0]);
        rows[i][1] = _mm256_fmadd_ps(a, high, rows[i][1]);
      }
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      float* sum = sums + (first + i) * kSide;
      _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), rows[i][0]));
      _mm256_storeu_ps(sum + 8, _mm256_add_ps(_mm256_loadu_ps(sum + 8), rows[i][1]));
    }
  }
}

// Eight pixels of eight channels at a time, then four of four.
__attribute__((target("avx2,fma"))) void interleave_256(const float* const* channels, int64_t count, float* pixels,
                                                        int64_t stride) {
  int64_t p = 0;
  for (; p + 8 <= count; p += 8) {
    for (int64_t half = 0; half < kSide; half += 8) {
      __m256 x[8], y[8];
#pragma GCC unroll 8
      for (int64_t c = 0; c < 8; ++c) x[c] = _mm256_loadu_ps(channels[half + c] + p);
#pragma GCC unroll 4
      for (int64_t c = 0; c < 8; c += 2) {
        y[c] = _mm256_unpacklo_ps(x[c], x[c + 1]);
        y[c + 1] = _mm256_unpackhi_ps(x[c], x[c + 1]);
      }
#pragma GCC unroll 2
      for (int64_t c = 0; c < 8; c += 4) {
        x[c] = _mm256_shuffle_ps(y[c], y[c + 2], 0x44);
        x[c + 1] = _mm256_shuffle_ps(y[c], y[c + 2], 0xee);
        x[c + 2] = _mm256_shuffle_ps(y[c + 1], y[c + 3], 0x44);
        x[c + 3] = _mm256_shuffle_ps(y[c + 1], y[c + 3], 0xee);
      }
      float* to = pixels + p * stride + half;
#pragma GCC unroll 4
      for (int64_t c = 0; c < 4; ++c) {
        _mm256_storeu_ps(to + c * stride, _mm256_permute2f128_ps(x[c], x[c + 4], 0x20));
        _mm256_storeu_ps(to + (c + 4) * stride, _mm256_permute2f128_ps(x[c], x[c + 4], 0x31));
      }
    }
  }
  for (; p + 4 <= count; p += 4) {
    for (int64_t quarter = 0; quarter < kSide; quarter += 4) {
      __m128 x[4];
      for (int64_t c = 0; c < 4; ++c) x[c] = _mm_loadu_ps(channels[quarter + c] + p);
      _MM_TRANSPOSE4_PS(x[0], x[1], x[2], x[3]);
      for (int64_t c = 0; c < 4; ++c) _mm_storeu_ps(pixels + (p + c) * stride + quarter, x[c]);
    }
  }
  interleave_plain(channels, p, count, pixels, stride);
}

// As torch chooses its own kernels: ATEN_CPU_CAPABILITY speaks for both.
const bool kHas512 = at::get_cpu_capability() == "AVX512";
const bool kHas256 = kHas512 || at::get_cpu_capability() == "AVX2";

#endif

}  // namespace

bool fsc::correlates_fast() {
#ifdef FSC_BY_HAND
  return kHas256;
#else
  return false;
#endif
}

void fsc::correlate(const float* left, const float* right, int64_t count, float* sums) {
#ifdef FSC_BY_HAND
  (kHas512 ? correlate_512 : correlate_256)(left, right, count, sums);
#else
  TORCH_INTERNAL_ASSERT(correlates_fast());
#endif
}

void fsc::interleave(const float* const* channels, int64_t count, float* pixels, int64_t stride) {
#ifdef FSC_BY_HAND
  if (kHas256) return interleave_256(channels, count, pixels, stride);
#endif
  interleave_plain(channels, 0, count, pixels, stride);
}

FSC_CLONES void fsc::flush(float* sums, double* total) {
  for (int64_t i = 0; i < kTile; ++i) {
    total[i] += sums[i];
    sums[i] = 0;
  }
}
