// Soft thresholds, group norms and the largest of many values on the device; no ATen here.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fsc {

// A contiguous weight seen as [outer, groups, inner]; group g is [:, g, :].
struct Groups {
  int64_t outer;
  int64_t count;
  int64_t inner;
};

namespace device {

constexpr int kPassThreads = 256;
constexpr int kSelectThreads = 512;

// ---- single weights ----

template <typename real_t>
FSC_DEVICE real_t shrunk(real_t x, real_t threshold) {
  // x - x instead of 0, so that NaN stays NaN.
  return x > threshold ? x - threshold : (x < -threshold ? x + threshold : x - x);
}

// A threshold or a number of weights that the host knows, or one that lies on the device.
struct Amount {
  double value;
  const double* on_device;

  FSC_DEVICE double get() const { return on_device ? *on_device : value; }
};

// What a kernel finds as threshold where nothing goes.
constexpr double kNothingGoes = -1;

// A threshold that became infinite would turn infinity into NaN.
template <typename real_t>
FSC_DEVICE real_t finite(double threshold) {
  constexpr auto most = static_cast<double>(std::numeric_limits<real_t>::max());
  return static_cast<real_t>(threshold < most ? threshold : most);
}

template <typename scalar_t, int width>
FSC_KERNEL(kPassThreads)
soft_threshold_kernel(const scalar_t* input, scalar_t* output, int64_t numel, Amount by) {
  using real_t = wide_t<scalar_t>;
  if (by.get() == kNothingGoes) return;  // in place
  const auto threshold = finite<real_t>(by.get());
  stride_over<width>(numel, [&](int64_t i, int count) {
    scalar_t values[width];
    load<width>(input + i, count, values);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) {
      values[v] = static_cast<scalar_t>(shrunk(static_cast<real_t>(values[v]), threshold));
    }
    store<width>(output + i, count, values);
  });
}

// ---- groups ----

// Euclidean norm of every group, one block a group.
template <typename scalar_t>
FSC_KERNEL(kPassThreads)
group_norms_kernel(const scalar_t* weight, double* norms, Groups groups) {
  for (int64_t g = block(); g < groups.count; g += num_blocks()) {
    double sum = 0;
    for (int64_t i = thread(); i < groups.outer * groups.inner; i += num_threads()) {
      const int64_t o = i / groups.inner;
      const auto value = static_cast<double>(weight[(o * groups.count + g) * groups.inner + i % groups.inner]);
      sum += value * value;
    }
    sum = block_sum(sum, shared<double>());
    if (thread() == 0) norms[g] = std::sqrt(sum);
  }
}

template <typename scalar_t>
FSC_KERNEL(kPassThreads)
shrink_groups_kernel(const scalar_t* weight, scalar_t* output, const double* norms, Groups groups, Amount by) {
  using real_t = wide_t<scalar_t>;
  const double threshold = by.get();
  if (threshold == kNothingGoes) return;  // in place
  stride_over<1>(groups.outer * groups.count * groups.inner, [&](int64_t i, int) {
    const double norm = norms[i / groups.inner % groups.count];
    // Written so that a NaN norm gives a NaN scale and a zero norm gives zero.
    const auto scale = static_cast<real_t>(norm <= threshold ? 0.0 : 1.0 - threshold / norm);
    output[i] = static_cast<scalar_t>(scale * static_cast<real_t>(weight[i]));
  });
}

// ---- the largest ----

// Values that are not negative order like their bits. NaN counts as infinity.
FSC_DEVICE uint32_t ordered_bits(float value) {
  value = std::isnan(value) ? INFINITY : std::fabs(value);
  return std::bit_cast<uint32_t>(value);
}
FSC_DEVICE uint64_t ordered_bits(double value) {
  value = std::isnan(value) ? static_cast<double>(INFINITY) : std::fabs(value);
  return std::bit_cast<uint64_t>(value);
}
FSC_DEVICE float value_of(uint32_t bits) { return std::bit_cast<float>(bits); }
FSC_DEVICE double value_of(uint64_t bits) { return std::bit_cast<double>(bits); }

constexpr int kDigits = 256;

struct SelectMemory {
  int counts[kDigits];
  int ties[kSelectThreads];
  int digit;
  int left;
};

// The bits of the count-th largest value, and in `left` how many equal to it are among the count largest. Eight
// bits are settled at a time, from the top, by counting; for one block and count in [1, size].
template <typename bits_t, typename Read>
FSC_DEVICE bits_t nth_largest_bits(SelectMemory& memory, int64_t size, int count, const Read& read) {
  bits_t settled = 0, found = 0;
  for (int shift = 8 * static_cast<int>(sizeof(bits_t)) - 8; shift >= 0; shift -= 8) {
    for (int d = thread(); d < kDigits; d += num_threads()) memory.counts[d] = 0;
    barrier();
    for (int64_t i = thread(); i < size; i += num_threads()) {
      const bits_t bits = read(i);
      if ((bits & settled) == found) atomic_add(&memory.counts[(bits >> shift) & (kDigits - 1)], 1);
    }
    barrier();
    if (thread() == 0) {
      int digit = kDigits - 1, left = shift == 8 * static_cast<int>(sizeof(bits_t)) - 8 ? count : memory.left;
      for (; left > memory.counts[digit]; --digit) left -= memory.counts[digit];
      memory.digit = digit;
      memory.left = left;
    }
    barrier();
    settled |= static_cast<bits_t>(kDigits - 1) << shift;
    found |= static_cast<bits_t>(memory.digit) << shift;
    barrier();
  }
  return found;
}

// Marks the `count` largest magnitudes; of equal ones the first are kept. One block.
template <typename value_t>
FSC_KERNEL(kSelectThreads)
mark_largest_kernel(const value_t* values, int64_t size, Amount stay, uint8_t* keep) {
  using bits_t = decltype(ordered_bits(wide_t<value_t>{}));
  const int count = static_cast<int>(stay.get());
  auto& memory = *shared<SelectMemory>();
  const auto read = [&](int64_t i) { return ordered_bits(static_cast<wide_t<value_t>>(values[i])); };
  if (count == 0) {
    for (int64_t i = thread(); i < size; i += num_threads()) keep[i] = 0;
    return;
  }
  const bits_t cut = nth_largest_bits<bits_t>(memory, size, count, read);
  // Every thread has a range of its own, so that ties are taken in the order of their index.
  const int64_t length = (size + num_threads() - 1) / num_threads();
  const int64_t begin = thread() * length, end = begin + length < size ? begin + length : size;
  int mine = 0;
  for (int64_t i = begin; i < end; ++i) mine += read(i) == cut;
  memory.ties[thread()] = mine;
  barrier();
  int left = memory.left;
  for (int t = 0; t < thread(); ++t) left -= memory.ties[t];
  for (int64_t i = begin; i < end; ++i) {
    const bits_t bits = read(i);
    keep[i] = bits > cut || (bits == cut && left-- > 0);
  }
}

// The largest magnitude that goes when the `stay` largest stay. One block.
template <typename value_t>
FSC_KERNEL(kSelectThreads)
largest_gone_kernel(const value_t* values, int64_t size, Amount stay, double* found) {
  using bits_t = decltype(ordered_bits(wide_t<value_t>{}));
  const int count = static_cast<int>(stay.get());
  if (count == size) {
    if (thread() == 0) *found = kNothingGoes;
    return;
  }
  const auto read = [&](int64_t i) { return ordered_bits(static_cast<wide_t<value_t>>(values[i])); };
  const bits_t bits = nth_largest_bits<bits_t>(*shared<SelectMemory>(), size, count + 1, read);
  if (thread() == 0) *found = static_cast<double>(value_of(bits));
}

// Zero where the mask is; `keep` has one entry for each weight, or one for each group.
template <typename scalar_t>
FSC_KERNEL(kPassThreads)
clear_kernel(scalar_t* values, const uint8_t* keep, Groups groups) {
  stride_over<1>(groups.outer * groups.count * groups.inner, [&](int64_t i, int) {
    if (!keep[i / groups.inner % groups.count]) values[i] = scalar_t(0);
  });
}

}  // namespace device
}  // namespace fsc
