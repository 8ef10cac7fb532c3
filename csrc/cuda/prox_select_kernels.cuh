// The largest of many values on the device, by one block or by many, whose counts are added up: sums of integers are
// the same in every order. No ATen here.
#pragma once

#include <cstdint>

#include "cuda/prox_select_digits.cuh"

namespace fsc::device {

// ---- what stays ----

// The values of a span above the cut stay, and the first `staying` of the `ties` equal to it.
template <typename value_t>
FSC_DEVICE void write_kept(SelectMemory& memory, const value_t* values, const Span& span, uint64_t cut, int staying,
                           int ties, const Kept<value_t>& kept) {
  using bits_t = bits_of_t<value_t>;
  if (staying <= 0 || staying >= ties) {
    const bits_t least = static_cast<bits_t>(cut) + (staying <= 0 ? 1 : 0);
    visit_values(values, span, [&](int64_t i, bits_t bits) { kept.write(i, bits >= least); });
    return;
  }
  for (int64_t begin = span.begin; begin < span.end; begin += num_threads()) {
    const int64_t i = begin + thread();
    const bool inside = i < span.end;
    const bits_t bits = inside ? ordered_bits(static_cast<wide_t<value_t>>(values[i])) : bits_t(0);
    const bool tie = inside && bits == cut;
    const Before found = sum_before(tie, memory.sums);
    if (inside) kept.write(i, bits > cut || (tie && found.before < staying));
    staying -= found.all;
  }
}

// What none can reach, where nothing stays.
template <typename value_t>
constexpr uint64_t kBeyondAll = ~bits_of_t<value_t>(0) >> 1;

// Marks the `stay` largest magnitudes; of equal ones the first are kept. One block.
template <typename value_t>
FSC_KERNEL(kSelectThreads)
mark_alone_kernel(Choice<value_t> choice, Kept<value_t> kept) {
  auto& memory = *shared<SelectMemory>();
  const Settled cut = settle_alone(memory, choice);
  write_kept(memory, choice.values, {0, choice.size}, cut.rank == 0 ? kBeyondAll<value_t> : cut.bits, cut.rank,
             cut.alike, kept);
}

// The value of the rank, or that nothing goes where there is none.
template <typename value_t>
FSC_DEVICE double threshold_of(const Settled& cut) {
  return cut.rank == 0 ? kNothingGoes : static_cast<double>(value_of(static_cast<bits_of_t<value_t>>(cut.bits)));
}

// One block.
template <typename value_t>
FSC_KERNEL(kSelectThreads)
find_alone_kernel(Choice<value_t> choice, double* found) {
  const Settled cut = settle_alone(*shared<SelectMemory>(), choice);
  if (thread() == 0) *found = threshold_of<value_t>(cut);
}

// ---- by many blocks ----

// What the blocks have found, zero at first; each choice leaves it ready for the next.
struct SelectSpace {
  int* counts;       // [passes, kDigits]
  Settled* settled;  // [passes], by the digits before the pass
  int* ties;         // [blocks]
  int64_t span;      // values that a block works on

  FSC_DEVICE Span of_block(int64_t size) const {
    const int64_t begin = block() * span, end = begin + span;
    return {begin < size ? begin : size, end < size ? end : size};
  }

  // For the kernels behind this one.
  FSC_DEVICE void clear(int pass) const {
    for (int64_t d = block() * num_threads() + thread(); d < kDigits; d += num_blocks() * num_threads()) {
      counts[pass * kDigits + d] = 0;
    }
  }
};

// What is settled before a pass: every block looks through the counts of the one before itself.
template <typename value_t>
FSC_DEVICE Settled settled_before(SelectMemory& memory, const Choice<value_t>& choice, const SelectSpace& space,
                                  int pass) {
  if (pass == 0) return choice.begin();
  const Settled so_far = space.settled[pass - 1];
  if (so_far.rank == 0) return so_far;
  return settle<bits_of_t<value_t>>(memory, space.counts + (pass - 1) * kDigits, so_far, pass - 1);
}

template <typename value_t>
FSC_KERNEL(kSelectThreads)
count_digits_kernel(Choice<value_t> choice, SelectSpace space, int pass) {
  auto& memory = *shared<SelectMemory>();
  const Settled so_far = settled_before(memory, choice, space, pass);
  if (block() == 0 && thread() == 0) space.settled[pass] = so_far;
  if (pass + 1 < kDigitPasses<value_t>) space.clear(pass + 1);
  if (so_far.rank == 0) return;
  count_digits(memory, choice.values, space.of_block(choice.size), so_far, pass);
  for (int d = thread(); d < kDigits; d += num_threads()) {
    if (memory.counts[d] > 0) atomic_add(&space.counts[pass * kDigits + d], memory.counts[d]);
  }
}

// How many of a block's values are equal to the cut, where not all of those stay.
template <typename value_t>
FSC_KERNEL(kSelectThreads)
count_ties_kernel(Choice<value_t> choice, SelectSpace space) {
  auto& memory = *shared<SelectMemory>();
  const Settled cut = settled_before(memory, choice, space, kDigitPasses<value_t>);
  if (cut.rank == cut.alike) return;
  int mine = 0;
  visit_values(choice.values, space.of_block(choice.size),
               [&](int64_t, bits_of_t<value_t> bits) { mine += bits == cut.bits; });
  mine = sum_before(mine, memory.sums).all;
  if (thread() == 0) space.ties[block()] = mine;
}

// As mark_alone_kernel does.
template <typename value_t>
FSC_KERNEL(kSelectThreads)
mark_kernel(Choice<value_t> choice, SelectSpace space, Kept<value_t> kept) {
  auto& memory = *shared<SelectMemory>();
  const Settled cut = settled_before(memory, choice, space, kDigitPasses<value_t>);
  space.clear(0);
  int staying = cut.rank, ties = cut.alike;
  if (staying < ties) {
    int before = 0;
    for (int64_t b = thread(); b < block(); b += num_threads()) before += space.ties[b];
    staying -= sum_before(before, memory.sums).all;
    ties = space.ties[block()];
  }
  write_kept(memory, choice.values, space.of_block(choice.size), cut.rank == 0 ? kBeyondAll<value_t> : cut.bits,
             staying, ties, kept);
}

// As find_alone_kernel does; one block.
template <typename value_t>
FSC_KERNEL(kSelectThreads)
find_kernel(Choice<value_t> choice, SelectSpace space, double* found) {
  const Settled cut = settled_before(*shared<SelectMemory>(), choice, space, kDigitPasses<value_t>);
  space.clear(0);
  if (thread() == 0) *found = threshold_of<value_t>(cut);
}

}  // namespace fsc::device
