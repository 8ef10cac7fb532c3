// The value of a rank among many, by its digits from the top: a few bits are settled at a time by counting. No ATen
// here.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cuda/amount.cuh"
#include "cuda/reduce.cuh"

namespace fsc::device {

constexpr int kSelectThreads = 512;
constexpr int kDigitBits = 11;
constexpr int kDigits = 1 << kDigitBits;

// ---- digits ----

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

template <typename value_t>
using bits_of_t = decltype(ordered_bits(wide_t<value_t>{}));

// Passes over the values: half precision leaves the low bits of its float32 zero.
template <typename value_t>
constexpr int kDigitPasses = sizeof(value_t) == 2 ? 2 : (sizeof(value_t) == 4 ? 3 : 6);

// Where the digit of a pass begins; the last one may overlap bits that are settled, which all candidates share.
template <typename bits_t>
FSC_DEVICE int digit_shift(int pass) {
  const int shift = 8 * static_cast<int>(sizeof(bits_t)) - kDigitBits * (pass + 1);
  return shift < 0 ? 0 : shift;
}

// What is known of the value that is looked for.
struct Settled {
  uint64_t bits;  // its digits so far
  int rank;       // among the values that begin with them, from 1; 0 where none is looked for
  int alike;      // how many values those are, from the first digit on
};

// The values, and the rank of the one that is looked for: `stay` + `beyond`, from the largest on.
template <typename value_t>
struct Choice {
  const value_t* values;
  int64_t size;
  Amount stay;
  int beyond;

  // Where no value has the rank, none is looked for.
  FSC_DEVICE Settled begin() const {
    const int64_t rank = static_cast<int64_t>(stay.get()) + beyond;
    return {0, rank <= size ? static_cast<int>(rank) : 0, 0};
  }
};

// ---- within a block ----

struct SelectMemory {
  int counts[kDigits];
  int sums[kSelectThreads / kWarp];
  Settled found;
};

struct Span {
  int64_t begin;
  int64_t end;
};

struct Before {
  int before;  // of the threads before this one
  int all;
};

// Sums over the threads of a block; `scratch` holds one value a warp.
FSC_DEVICE Before sum_before(int value, int* scratch) {
  const int warp = thread() / kWarp;
  int before = 0, all = value;
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const int other = shuffle_xor(all, lanes);
    if (thread() & lanes) before += other;
    all += other;
  }
  barrier();  // the scratch may still be read for the sum before
  if (thread() % kWarp == 0) scratch[warp] = all;
  barrier();
  all = 0;
  for (int w = 0; w < num_threads() / kWarp; ++w) {
    if (w == warp) before += all;
    all += scratch[w];
  }
  return {before, all};
}

// Calls visit(index, bits) for this thread's values of a span, with some loads in flight.
template <typename value_t, typename Visit>
FSC_DEVICE void visit_values(const value_t* values, const Span& span, const Visit& visit) {
  constexpr int at_once = 4;
  const int64_t step = num_threads();
  for (int64_t i = span.begin + thread(); i < span.end; i += at_once * step) {
    value_t found[at_once];
    FSC_UNROLL
    for (int u = 0; u < at_once; ++u) found[u] = i + u * step < span.end ? values[i + u * step] : value_t(0);
    FSC_UNROLL
    for (int u = 0; u < at_once; ++u) {
      if (i + u * step < span.end) visit(i + u * step, ordered_bits(static_cast<wide_t<value_t>>(found[u])));
    }
  }
}

// Counts, in the block's memory, the digits of the values of a span that begin with what is settled.
template <typename value_t>
FSC_DEVICE void count_digits(SelectMemory& memory, const value_t* values, const Span& span, const Settled& so_far,
                             int pass) {
  using bits_t = bits_of_t<value_t>;
  const int shift = digit_shift<bits_t>(pass);
  const bits_t found = static_cast<bits_t>(so_far.bits);
  const bits_t settled = pass == 0 ? 0 : ~bits_t(0) << digit_shift<bits_t>(pass - 1);
  for (int d = thread(); d < kDigits; d += num_threads()) memory.counts[d] = 0;
  barrier();
  visit_values(values, span, [&](int64_t, bits_t bits) {
    if ((bits & settled) == found) atomic_add(&memory.counts[(bits >> shift) & (kDigits - 1)], 1);
  });
  barrier();
}

// Settles one more digit by the counts of all values. Every thread looks through four digits, from the largest on.
template <typename bits_t>
FSC_DEVICE Settled settle(SelectMemory& memory, const int* counts, const Settled& so_far, int pass) {
  constexpr int each = kDigits / kSelectThreads;
  const int largest = kDigits - 1 - thread() * each;
  int own[each], mine = 0;
  FSC_UNROLL
  for (int d = 0; d < each; ++d) mine += own[d] = counts[largest - d];
  int left = so_far.rank - sum_before(mine, memory.sums).before;
  FSC_UNROLL
  for (int d = 0; d < each; ++d) {
    if (left > 0 && left <= own[d]) {
      const auto digit = static_cast<uint64_t>(largest - d);
      memory.found = {so_far.bits | digit << digit_shift<bits_t>(pass), left, own[d]};
    }
    left -= own[d];
  }
  barrier();
  return memory.found;
}

// All digits, by a block alone.
template <typename value_t>
FSC_DEVICE Settled settle_alone(SelectMemory& memory, const Choice<value_t>& choice) {
  Settled found = choice.begin();
  if (found.rank == 0) return found;
  for (int pass = 0; pass < kDigitPasses<value_t>; ++pass) {
    count_digits(memory, choice.values, {0, choice.size}, found, pass);
    found = settle<bits_of_t<value_t>>(memory, memory.counts, found, pass);
  }
  return found;
}

}  // namespace fsc::device
