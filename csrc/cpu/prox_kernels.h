// Soft thresholds, group norms and the largest of many values: what the proximal operators and the loops
// that apply them after every step share.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cpu/clones.h"

namespace fsc {

constexpr int64_t kProxGrain = 1 << 15;

// ---- single weights ----

template <typename scalar_t>
FSC_CLONES void soft_threshold(const scalar_t* input, scalar_t* output, int64_t begin, int64_t end,
                               scalar_t threshold) {
  for (int64_t i = begin; i < end; ++i) {
    const scalar_t x = input[i];
    // x - x instead of 0, so that NaN stays NaN.
    output[i] = x > threshold ? x - threshold : (x < -threshold ? x + threshold : x - x);
  }
}

// ---- groups: the slices of a weight along one dimension ----

// A contiguous weight seen as [outer, groups, inner]; group g is [:, g, :].
struct Groups {
  int64_t outer;
  int64_t count;
  int64_t inner;
};

inline Groups groups_of(const at::Tensor& weight, int64_t dim) {
  const auto sizes = weight.sizes();
  const auto product = [](auto begin, auto end) {
    return std::accumulate(begin, end, int64_t{1}, std::multiplies<int64_t>());
  };
  return {product(sizes.begin(), sizes.begin() + dim), sizes[dim], product(sizes.begin() + dim + 1, sizes.end())};
}

inline int64_t groups_grain(const Groups& groups) {
  return std::max<int64_t>(1, kProxGrain / std::max<int64_t>(1, groups.outer * groups.inner));
}

// In interleaved partial sums: one order that vectorises.
template <typename scalar_t>
FSC_CLONES double sum_of_squares(const scalar_t* values, int64_t count) {
  constexpr int64_t kLanes = 16;
  double sums[kLanes] = {};
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  double total = 0;
  for (int64_t i = whole; i < count; ++i) total += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  for (const double sum : sums) total += sum;
  return total;
}

template <typename scalar_t>
FSC_CLONES void add_squares(const scalar_t* values, double* sums, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
}

// Euclidean norm of every group in float64; each group is summed by one thread in one order, so the
// bits do not depend on the number of threads.
template <typename scalar_t>
std::vector<double> group_norms(const scalar_t* weight, const Groups& groups) {
  std::vector<double> norms(groups.count, 0.0);
  at::parallel_for(0, groups.count, groups_grain(groups), [&](int64_t begin, int64_t end) {
    if (groups.outer == 1) {
      for (int64_t g = begin; g < end; ++g) norms[g] = sum_of_squares(weight + g * groups.inner, groups.inner);
    } else {
      // Groups are a few weights wide here: whole rows of them vectorise.
      std::vector<double> sums((end - begin) * groups.inner, 0.0);
      for (int64_t o = 0; o < groups.outer; ++o) {
        add_squares(weight + (o * groups.count + begin) * groups.inner, sums.data(), std::ssize(sums));
      }
      for (size_t i = 0; i < sums.size(); ++i) norms[begin + i / groups.inner] += sums[i];
    }
    for (int64_t g = begin; g < end; ++g) norms[g] = std::sqrt(norms[g]);
  });
  return norms;
}

// One value a group, repeated for every weight of a row [count, inner].
template <typename value_t>
std::vector<value_t> repeated(const std::vector<value_t>& of_groups, const Groups& groups) {
  std::vector<value_t> row(groups.count * groups.inner);
  for (size_t i = 0; i < row.size(); ++i) row[i] = of_groups[i / groups.inner];
  return row;
}

template <typename scalar_t>
FSC_CLONES void multiply(const scalar_t* values, const scalar_t* scale, scalar_t* output, int64_t count) {
  for (int64_t i = 0; i < count; ++i) output[i] = scale[i] * values[i];
}

template <typename scalar_t>
void scale_groups(const scalar_t* weight, scalar_t* output, const Groups& groups, const std::vector<scalar_t>& scale) {
  const int64_t width = groups.count * groups.inner;
  if (groups.outer == 1) {
    at::parallel_for(0, groups.count, groups_grain(groups), [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) {
        const int64_t offset = g * groups.inner;
        for (int64_t i = 0; i < groups.inner; ++i) output[offset + i] = scale[g] * weight[offset + i];
      }
    });
    return;
  }
  const std::vector<scalar_t> row = repeated(scale, groups);
  at::parallel_for(0, groups.outer, std::max<int64_t>(1, kProxGrain / std::max<int64_t>(1, width)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t o = begin; o < end; ++o) {
                       multiply(weight + o * width, row.data(), output + o * width, width);
                     }
                   });
}

// The block soft threshold by groups' norms; output may be the memory of weight.
template <typename scalar_t>
void shrink_groups(const scalar_t* weight, scalar_t* output, const Groups& groups, const std::vector<double>& norms,
                   double threshold) {
  std::vector<scalar_t> scale(norms.size());
  for (size_t g = 0; g < norms.size(); ++g) {
    // Written so that a NaN norm gives a NaN scale and a zero norm gives zero.
    scale[g] = static_cast<scalar_t>(norms[g] <= threshold ? 0.0 : 1.0 - threshold / norms[g]);
  }
  scale_groups(weight, output, groups, scale);
}

// ---- the largest ----

// The `count`-th largest of values that are not negative and not NaN, for count in [1, size]: those order like the
// bits they are stored in, so a few bits are settled at a time, from the top, by counting.
template <typename scalar_t>
scalar_t nth_largest(const std::vector<scalar_t>& values, int64_t count) {
  using bits_t = std::conditional_t<sizeof(scalar_t) == 4, uint32_t, uint64_t>;
  constexpr int kDigits = 11;
  constexpr bits_t kDigit = (1 << kDigits) - 1;
  bits_t settled = 0, found = 0;
  for (int left = 8 * sizeof(scalar_t); left > 0; left -= kDigits) {
    // The last digit may overlap bits that are settled, which all candidates share.
    const int shift = std::max(0, left - kDigits);
    std::array<int64_t, kDigit + 1> counts{};
    for (const scalar_t value : values) {
      const bits_t bits = std::bit_cast<bits_t>(value);
      if ((bits & settled) == found) ++counts[(bits >> shift) & kDigit];
    }
    bits_t digit = kDigit;
    for (; count > counts[digit]; --digit) count -= counts[digit];
    settled |= kDigit << shift;
    found |= digit << shift;
  }
  return std::bit_cast<scalar_t>(found);
}

// Marks the `count` largest magnitudes in `keep`; of equal ones the first are kept. `magnitude` has no NaN.
template <typename scalar_t>
void mark_largest(const std::vector<scalar_t>& magnitude, int64_t count, bool* keep) {
  if (count == 0) {
    std::fill_n(keep, magnitude.size(), false);
    return;
  }
  const scalar_t cut = nth_largest(magnitude, count);
  int64_t ties = count - std::count_if(magnitude.begin(), magnitude.end(), [&](scalar_t m) { return m > cut; });
  std::transform(magnitude.begin(), magnitude.end(), keep, [&](scalar_t m) { return m > cut; });
  for (size_t i = 0; ties > 0; ++i) {
    if (magnitude[i] == cut) keep[i] = true, --ties;
  }
}

}  // namespace fsc
