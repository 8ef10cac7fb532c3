#include "cpu/channels_last.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/clones.h"

#ifdef __x86_64__
#include <xmmintrin.h>
#endif

namespace {

constexpr int64_t kSide = 16;  // of the squares that are turned: a line of the cache

// A whole square of [rows, columns] to [columns, rows].
void turn_square(const float* from, int64_t columns, float* to, int64_t rows) {
#ifdef __x86_64__
  for (int64_t j = 0; j < kSide; j += 4) {
    for (int64_t i = 0; i < kSide; i += 4) {
      __m128 four[4];
      for (int64_t k = 0; k < 4; ++k) four[k] = _mm_loadu_ps(from + (i + k) * columns + j);
      _MM_TRANSPOSE4_PS(four[0], four[1], four[2], four[3]);
      for (int64_t k = 0; k < 4; ++k) _mm_storeu_ps(to + (j + k) * rows + i, four[k]);
    }
  }
#else
  for (int64_t j = 0; j < kSide; ++j) {
    for (int64_t i = 0; i < kSide; ++i) to[j * rows + i] = from[i * columns + j];
  }
#endif
}

// [rows, columns] to [columns, rows].
void turn(const float* from, int64_t rows, int64_t columns, float* to) {
  for (int64_t i = 0; i < rows; i += kSide) {
    for (int64_t j = 0; j < columns; j += kSide) {
      const float* source = from + i * columns + j;
      float* goal = to + j * rows + i;
      if (i + kSide <= rows && j + kSide <= columns) {
        turn_square(source, columns, goal, rows);
        continue;
      }
      for (int64_t k = 0; k < std::min(kSide, rows - i); ++k) {
        for (int64_t l = 0; l < std::min(kSide, columns - j); ++l) goal[l * rows + k] = source[k * columns + l];
      }
    }
  }
}

at::Tensor turned(const at::Tensor& images, int64_t rows, int64_t columns, at::MemoryFormat format) {
  const at::Tensor result = at::empty_like(images, images.options().memory_format(format));
  const float* from = images.const_data_ptr<float>();
  float* to = result.data_ptr<float>();
  at::parallel_for(0, images.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) turn(from + n * rows * columns, rows, columns, to + n * rows * columns);
  });
  return result;
}

FSC_CLONES void add_squares(const float* values, int64_t count, float* sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += values[i] * values[i];
}

}  // namespace

at::Tensor fsc::channels_last(const at::Tensor& images) {
  constexpr auto format = at::MemoryFormat::ChannelsLast;
  if (images.is_contiguous(format) || !images.is_contiguous()) return images.contiguous(format);
  return turned(images, images.size(1), images.size(2) * images.size(3), format);
}

at::Tensor fsc::channels_first(const at::Tensor& images) {
  constexpr auto format = at::MemoryFormat::Contiguous;
  if (images.is_contiguous() || !images.is_contiguous(at::MemoryFormat::ChannelsLast)) return images.contiguous();
  return turned(images, images.size(2) * images.size(3), images.size(1), format);
}

at::Tensor fsc::channel_norms(const at::Tensor& images) {
  const int64_t channels = images.size(1), pixels = images.size(2) * images.size(3);
  const float* values = images.const_data_ptr<float>();
  std::vector<float> sums(images.size(0) * channels);  // image by image
  at::parallel_for(0, images.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin * pixels; p < end * pixels; ++p) {
      add_squares(values + p * channels, channels, &sums[p / pixels * channels]);
    }
  });
  const at::Tensor norms = at::empty({channels}, at::kFloat);
  for (int64_t c = 0; c < channels; ++c) {
    double total = 0;
    for (int64_t n = 0; n < images.size(0); ++n) total += sums[n * channels + c];
    // A sum that overflowed says nothing of rounding.
    norms.data_ptr<float>()[c] = std::isinf(total) ? 0 : static_cast<float>(std::sqrt(total));
  }
  return norms;
}
