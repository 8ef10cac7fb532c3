// Proximal operators and hard projections on the CPU: soft threshold, block soft threshold, top-k.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "check.h"
#include "cpu/clones.h"
#include "version_counter.h"

namespace {

constexpr int64_t kGrain = 1 << 15;

void check_threshold(const char* op, double threshold) {
  TORCH_CHECK(std::isfinite(threshold) && threshold >= 0, op, ": threshold must be finite and at least 0, got ",
              threshold);
}

// ---- soft threshold ----

template <typename scalar_t>
FSC_CLONES void soft_threshold(const scalar_t* input, scalar_t* output, int64_t begin, int64_t end,
                               scalar_t threshold) {
  for (int64_t i = begin; i < end; ++i) {
    const scalar_t x = input[i];
    // x - x instead of 0, so that NaN stays NaN.
    output[i] = x > threshold ? x - threshold : (x < -threshold ? x + threshold : x - x);
  }
}

// Both tensors share one dense memory format, so their elements pair up in memory order.
void soft_threshold_dense(const at::Tensor& input, const at::Tensor& output, double threshold) {
  AT_DISPATCH_FLOATING_TYPES(input.scalar_type(), "prox_l1", [&] {
    const scalar_t* source = input.const_data_ptr<scalar_t>();
    scalar_t* destination = output.data_ptr<scalar_t>();
    // A threshold that became infinite would turn infinity into NaN.
    const auto reachable = static_cast<scalar_t>(std::min<double>(threshold, std::numeric_limits<scalar_t>::max()));
    at::parallel_for(0, input.numel(), kGrain,
                     [&](int64_t begin, int64_t end) { soft_threshold(source, destination, begin, end, reachable); });
  });
}

at::Tensor prox_l1_cpu(const at::Tensor& input, double threshold) {
  fsc::check_floating("prox_l1", "input", input);
  check_threshold("prox_l1", threshold);
  at::Tensor output = at::empty_like(input);
  const bool dense = input.is_non_overlapping_and_dense();
  if (!dense) output.copy_(input);
  soft_threshold_dense(dense ? input : output, output, threshold);
  return output;
}

void prox_l1_inplace_cpu(at::Tensor& input, double threshold) {
  fsc::check_floating("prox_l1_", "input", input);
  check_threshold("prox_l1_", threshold);
  if (input.is_non_overlapping_and_dense()) {
    soft_threshold_dense(input, input, threshold);
  } else {
    input.copy_(prox_l1_cpu(input, threshold));
  }
  fsc::mark_changed(input);
}

// ---- groups: the slices of a weight along one dimension ----

// A contiguous weight seen as [outer, groups, inner]; group g is [:, g, :].
struct Groups {
  int64_t outer;
  int64_t count;
  int64_t inner;
};

Groups groups_of(const at::Tensor& weight, int64_t dim) {
  const auto sizes = weight.sizes();
  const auto product = [](auto begin, auto end) {
    return std::accumulate(begin, end, int64_t{1}, std::multiplies<int64_t>());
  };
  return {product(sizes.begin(), sizes.begin() + dim), sizes[dim], product(sizes.begin() + dim + 1, sizes.end())};
}

int64_t groups_grain(const Groups& groups) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, groups.outer * groups.inner));
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

// Euclidean norm of every group in float64; each group is summed by one thread in one order, so the
// bits do not depend on the number of threads.
template <typename scalar_t>
std::vector<double> group_norms(const scalar_t* weight, const Groups& groups) {
  std::vector<double> norms(groups.count, 0.0);
  at::parallel_for(0, groups.count, groups_grain(groups), [&](int64_t begin, int64_t end) {
    for (int64_t o = 0; o < groups.outer; ++o) {
      for (int64_t g = begin; g < end; ++g) {
        norms[g] += sum_of_squares(weight + (o * groups.count + g) * groups.inner, groups.inner);
      }
    }
    for (int64_t g = begin; g < end; ++g) norms[g] = std::sqrt(norms[g]);
  });
  return norms;
}

template <typename scalar_t>
void scale_groups(const scalar_t* weight, scalar_t* output, const Groups& groups, const std::vector<scalar_t>& scale) {
  at::parallel_for(0, groups.count, groups_grain(groups), [&](int64_t begin, int64_t end) {
    for (int64_t o = 0; o < groups.outer; ++o) {
      for (int64_t g = begin; g < end; ++g) {
        const int64_t offset = (o * groups.count + g) * groups.inner;
        for (int64_t i = 0; i < groups.inner; ++i) output[offset + i] = scale[g] * weight[offset + i];
      }
    }
  });
}

void shrink_groups(const at::Tensor& weight, const at::Tensor& output, double threshold, int64_t dim) {
  const Groups groups = groups_of(weight, dim);
  AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "prox_group_l2", [&] {
    const scalar_t* source = weight.const_data_ptr<scalar_t>();
    const std::vector<double> norms = group_norms(source, groups);
    std::vector<scalar_t> scale(groups.count);
    for (int64_t g = 0; g < groups.count; ++g) {
      // Written so that a NaN norm gives a NaN scale and a zero norm gives zero.
      scale[g] = static_cast<scalar_t>(norms[g] <= threshold ? 0.0 : 1.0 - threshold / norms[g]);
    }
    scale_groups(source, output.data_ptr<scalar_t>(), groups, scale);
  });
}

int64_t check_group_dim(const char* op, const at::Tensor& weight, int64_t dim) {
  TORCH_CHECK(weight.dim() >= 1, op, ": weight must have groups, so rank at least 1, got ", weight.sizes());
  return fsc::check_dim(op, dim, weight);
}

int64_t check_group_arguments(const char* op, const at::Tensor& weight, double threshold, int64_t dim) {
  fsc::check_floating(op, "weight", weight);
  check_threshold(op, threshold);
  return check_group_dim(op, weight, dim);
}

at::Tensor prox_group_l2_cpu(const at::Tensor& weight, double threshold, int64_t dim) {
  dim = check_group_arguments("prox_group_l2", weight, threshold, dim);
  const at::Tensor contiguous = weight.contiguous();
  at::Tensor output = at::empty_like(contiguous);
  shrink_groups(contiguous, output, threshold, dim);
  return output;
}

void prox_group_l2_inplace_cpu(at::Tensor& weight, double threshold, int64_t dim) {
  dim = check_group_arguments("prox_group_l2_", weight, threshold, dim);
  const at::Tensor contiguous = weight.contiguous();
  shrink_groups(contiguous, contiguous, threshold, dim);
  if (!contiguous.is_same(weight)) weight.copy_(contiguous);
  fsc::mark_changed(weight);
}

// ---- hard projections ----

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

// Marks the `count` largest magnitudes; of equal ones the first are kept. `magnitude` has no NaN.
template <typename scalar_t>
at::Tensor largest(const std::vector<scalar_t>& magnitude, int64_t count, at::IntArrayRef sizes) {
  at::Tensor mask = at::zeros(sizes, at::TensorOptions().dtype(at::kBool));
  if (count == 0) return mask;
  const scalar_t cut = nth_largest(magnitude, count);
  int64_t ties = count - std::count_if(magnitude.begin(), magnitude.end(), [&](scalar_t m) { return m > cut; });
  bool* keep = mask.data_ptr<bool>();
  std::transform(magnitude.begin(), magnitude.end(), keep, [&](scalar_t m) { return m > cut; });
  for (size_t i = 0; ties > 0; ++i) {
    if (magnitude[i] == cut) keep[i] = true, --ties;
  }
  return mask;
}

template <typename scalar_t>
void check_topk(const char* op, const std::vector<scalar_t>& magnitude, int64_t count) {
  const int64_t most = static_cast<int64_t>(magnitude.size());
  TORCH_CHECK(count >= 0 && count <= most, op, ": count must be in [0, ", most, "], got ", count);
  const bool ordered = std::none_of(magnitude.begin(), magnitude.end(), [](scalar_t m) { return std::isnan(m); });
  TORCH_CHECK(ordered, op, ": weight must not contain NaN, got NaN");
}

at::Tensor keep_topk_cpu(at::Tensor& weight, int64_t count) {
  fsc::check_floating("keep_topk_", "weight", weight);
  const at::Tensor contiguous = weight.contiguous();
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "keep_topk_", [&] {
    scalar_t* data = contiguous.data_ptr<scalar_t>();
    std::vector<scalar_t> magnitude(weight.numel());
    std::transform(data, data + magnitude.size(), magnitude.begin(), [](scalar_t x) { return std::abs(x); });
    check_topk("keep_topk_", magnitude, count);
    at::Tensor mask = largest(magnitude, count, weight.sizes());
    const bool* keep = mask.const_data_ptr<bool>();
    for (size_t i = 0; i < magnitude.size(); ++i) data[i] = keep[i] ? data[i] : scalar_t{0};
    if (!contiguous.is_same(weight)) weight.copy_(contiguous);
    fsc::mark_changed(weight);
    return mask;
  });
}

at::Tensor keep_topk_groups_cpu(at::Tensor& weight, int64_t count, int64_t dim) {
  fsc::check_floating("keep_topk_groups_", "weight", weight);
  dim = check_group_dim("keep_topk_groups_", weight, dim);
  const at::Tensor contiguous = weight.contiguous();
  const Groups groups = groups_of(weight, dim);
  return AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), "keep_topk_groups_", [&] {
    scalar_t* data = contiguous.data_ptr<scalar_t>();
    const std::vector<double> norms = group_norms(data, groups);
    check_topk("keep_topk_groups_", norms, count);
    at::Tensor mask = largest(norms, count, {groups.count});
    const bool* keep = mask.const_data_ptr<bool>();
    for (int64_t o = 0; o < groups.outer; ++o) {
      for (int64_t g = 0; g < groups.count; ++g) {
        if (!keep[g]) std::fill_n(data + (o * groups.count + g) * groups.inner, groups.inner, scalar_t{0});
      }
    }
    if (!contiguous.is_same(weight)) weight.copy_(contiguous);
    fsc::mark_changed(weight);
    return mask;
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("prox_l1", prox_l1_cpu);
  m.impl("prox_l1_", prox_l1_inplace_cpu);
  m.impl("prox_group_l2", prox_group_l2_cpu);
  m.impl("prox_group_l2_", prox_group_l2_inplace_cpu);
  m.impl("keep_topk_", keep_topk_cpu);
  m.impl("keep_topk_groups_", keep_topk_groups_cpu);
}
