// One step of Adam or of gradient descent and the proximal operator after it, on raw memory.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "cpu/clones.h"
#include "cpu/prox_kernels.h"
#include "step.h"

namespace fsc {

// A block of all that a step touches stays in the first cache.
constexpr int64_t kStepBlock = 1024;

// A weight with what a step changes beside it.
template <typename scalar_t>
struct Parameter {
  scalar_t* weight;
  std::array<scalar_t*, 2> state;  // exp_avg and exp_avg_sq; momentum_buffer and null; null and null
  uint8_t* mask;                   // of bools, whose loads GCC does not vectorise; null unless a count is kept
  Groups groups;

  int64_t numel() const { return groups.outer * groups.count * groups.inner; }
};

template <typename scalar_t, bool kMasked>
FSC_CLONES void adam_block(scalar_t* __restrict weight, const scalar_t* __restrict grad, scalar_t* __restrict average,
                           scalar_t* __restrict square, const uint8_t* __restrict mask, int64_t count,
                           const Update& update) {
  const scalar_t decay = update.decay, decay_square = update.decay_square;
  const scalar_t fresh = update.fresh, fresh_square = update.fresh_square;
  const scalar_t rate = update.rate, root = update.root, eps = update.eps;
  for (int64_t i = 0; i < count; ++i) {
    scalar_t g = grad[i];
    if (kMasked) g = mask[i] ? g : scalar_t{0};  // NaN, too, is gone
    average[i] = decay * average[i] + fresh * g;
    square[i] = decay_square * square[i] + fresh_square * g * g;
    const scalar_t change = rate * average[i] / (std::sqrt(square[i]) / root + eps);
    // Where nothing moves and eps is 0 the quotient is none.
    weight[i] -= kMasked && !mask[i] ? scalar_t{0} : change;
  }
}

template <typename scalar_t, bool kMasked>
FSC_CLONES void sgd_block(scalar_t* __restrict weight, const scalar_t* __restrict grad, scalar_t* __restrict buffer,
                          const uint8_t* __restrict mask, int64_t count, const Update& update) {
  const scalar_t decay = update.decay, rate = update.rate;
  for (int64_t i = 0; i < count; ++i) {
    scalar_t g = grad[i];
    if (kMasked) g = mask[i] ? g : scalar_t{0};  // NaN, too, is gone
    if (buffer) buffer[i] = decay * buffer[i] + g;
    weight[i] -= rate * (buffer ? buffer[i] : g);
  }
}

template <typename scalar_t, bool kMasked>
void update_block(const Parameter<scalar_t>& p, const scalar_t* grad, int64_t begin, int64_t count,
                  const Update& update) {
  scalar_t* first = p.state[0] ? p.state[0] + begin : nullptr;
  const uint8_t* mask = kMasked ? p.mask + begin : nullptr;
  if (update.adam) {
    adam_block<scalar_t, kMasked>(p.weight + begin, grad + begin, first, p.state[1] + begin, mask, count, update);
  } else {
    sgd_block<scalar_t, kMasked>(p.weight + begin, grad + begin, first, mask, count, update);
  }
}

template <typename scalar_t>
FSC_CLONES void clear_masked(scalar_t* __restrict values, const uint8_t* __restrict mask, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = mask[i] ? values[i] : scalar_t{0};
}

// Keeps the `count` largest; `measure` holds the magnitude of every weight or the norm of every group.
template <typename scalar_t, typename measure_t>
void keep(const Parameter<scalar_t>& p, const Penalty& penalty, std::vector<measure_t>& measure, int64_t count) {
  // A diverged weight has no order; it shows in the loss.
  for (measure_t& value : measure) value = std::isnan(value) ? std::numeric_limits<measure_t>::infinity() : value;
  const int64_t most = static_cast<int64_t>(measure.size());
  if (penalty.rule == Penalty::Rule::kKeepShrunk) {
    if (count == most) return;
    const measure_t threshold = nth_largest(measure, count + 1);
    if constexpr (std::is_same_v<measure_t, double>) {
      if (penalty.groups) return shrink_groups(p.weight, p.weight, p.groups, measure, threshold);
    }
    return soft_threshold(p.weight, p.weight, int64_t{0}, p.numel(), static_cast<scalar_t>(threshold));
  }
  // Zero outside the mask, in the weight and in the optimiser's state.
  std::vector<uint8_t> kept(most);
  mark_largest(measure, count, reinterpret_cast<bool*>(penalty.groups ? kept.data() : p.mask));
  if (penalty.groups) {
    const std::vector<uint8_t> wide = repeated(kept, p.groups);
    for (int64_t o = 0; o < p.groups.outer; ++o) std::copy(wide.begin(), wide.end(), p.mask + o * std::ssize(wide));
  }
  for (scalar_t* values : {p.weight, p.state[0], p.state[1]}) {
    if (values) clear_masked(values, p.mask, p.numel());
  }
}

template <typename scalar_t>
void apply_penalty(const Parameter<scalar_t>& p, const Penalty& penalty, double amount) {
  if (penalty.groups) {
    std::vector<double> norms = group_norms(p.weight, p.groups);
    if (penalty.rule == Penalty::Rule::kShrink) return shrink_groups(p.weight, p.weight, p.groups, norms, amount);
    return keep(p, penalty, norms, static_cast<int64_t>(amount));
  }
  if (!penalty.counts()) return;
  std::vector<scalar_t> magnitude(p.numel());
  std::transform(p.weight, p.weight + magnitude.size(), magnitude.begin(), [](scalar_t x) { return std::abs(x); });
  keep(p, penalty, magnitude, static_cast<int64_t>(amount));
}

// The step, then the proximal operator: one pass over memory for none and l1.
template <typename scalar_t>
void step(const Parameter<scalar_t>& p, const scalar_t* grad, const Update& update, const Penalty& penalty,
          double amount) {
  const bool l1 = penalty.rule == Penalty::Rule::kShrink && !penalty.groups;
  // A threshold that became infinite would turn infinity into NaN.
  const auto threshold = static_cast<scalar_t>(std::min<double>(amount, std::numeric_limits<scalar_t>::max()));
  at::parallel_for(0, p.numel(), kProxGrain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b += kStepBlock) {
      const int64_t count = std::min(kStepBlock, end - b);
      p.mask ? update_block<scalar_t, true>(p, grad, b, count, update)
             : update_block<scalar_t, false>(p, grad, b, count, update);
      if (l1) soft_threshold(p.weight, p.weight, b, b + count, threshold);
    }
  });
  if (!l1) apply_penalty(p, penalty, amount);
}

}  // namespace fsc
