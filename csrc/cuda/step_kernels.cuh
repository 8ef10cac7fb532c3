// One step of Adam or of gradient descent on the device, in one pass over the memory of many weights; no ATen here.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/prox_kernels.cuh"
#include "cuda/table.cuh"

namespace fsc::device {

// What changes from step to step of a loop: two of the scalars that step.h's Update has, and the penalty's amount.
struct ScheduledStep {
  double rate;
  double root;
  double amount;
};

// What all steps of an optimiser have in common, and whether a soft threshold stands behind them; as numbers that the
// arithmetic takes from where kernels' arguments lie.
template <typename real_t>
struct StepFormula {
  real_t decay;
  real_t fresh;
  real_t decay_square;
  real_t fresh_square;
  real_t eps;
  bool shrink;

  // What Adam takes from a weight; both moments move on.
  FSC_DEVICE real_t adam(const ScheduledStep& now, real_t g, real_t& first, real_t& second) const {
    const real_t rate = now.rate, root = now.root;
    first = decay * first + fresh * g;
    second = decay_square * second + fresh_square * g * g;
    return rate * first / (std::sqrt(second) / root + eps);
  }

  // What gradient descent with momentum takes; its buffer moves on.
  FSC_DEVICE real_t momentum(const ScheduledStep& now, real_t g, real_t& buffer) const {
    buffer = decay * buffer + g;
    return static_cast<real_t>(now.rate) * buffer;
  }

  FSC_DEVICE real_t without(const ScheduledStep& now, real_t weight, real_t change) const {
    weight -= change;
    return shrink ? shrunk(weight, finite<real_t>(now.amount)) : weight;
  }
};

// The scalars of one step. In a loop those that change lie on the device, so that every step is the same launch.
template <typename real_t>
struct StepScalars {
  StepFormula<real_t> formula;
  double rate;
  double root;
  const ScheduledStep* on_device;

  FSC_DEVICE ScheduledStep now(double amount) const {
    return on_device ? *on_device : ScheduledStep{rate, root, amount};
  }
};

// A weight with what a step changes beside it; null where there is none.
template <typename scalar_t>
struct StepPointers {
  scalar_t* weight;
  const scalar_t* grad;
  scalar_t* first;   // exp_avg, or the momentum's buffer
  scalar_t* second;  // exp_avg_sq
  uint8_t* mask;
};

// A weight among those of one launch.
template <typename scalar_t>
struct StepRow {
  StepPointers<scalar_t> p;
  int64_t numel;
  double threshold;  // of this weight, where there is one
  bool wide;         // accesses of 16 bytes
};

constexpr int kManyWeights = 48;

template <typename scalar_t, int capacity>
using StepTable = Table<StepRow<scalar_t>, capacity>;
static_assert(sizeof(StepTable<double, kManyWeights>) + sizeof(StepScalars<double>) <= kParameterBytes);

template <typename scalar_t, int width>
FSC_DEVICE void masked_gradient(const StepPointers<scalar_t>& p, int64_t i, int count,
                                wide_t<scalar_t> (&gradient)[width]) {
  scalar_t raw[width];
  load<width>(p.grad + i, count, raw);
  FSC_UNROLL
  for (int v = 0; v < width; ++v) {
    gradient[v] = static_cast<wide_t<scalar_t>>(raw[v]);
    if (p.mask && v < count && !p.mask[i + v]) gradient[v] = 0;  // NaN, too, is gone
  }
}

template <int width, typename scalar_t>
FSC_DEVICE void adam_pass(const StepRow<scalar_t>& row, const StepScalars<wide_t<scalar_t>>& s, const Share& share) {
  using real_t = wide_t<scalar_t>;
  const StepPointers<scalar_t>& p = row.p;
  const ScheduledStep now = s.now(row.threshold);
  stride_over<width>(share, row.numel, [&](int64_t i, int count) {
    scalar_t weight[width], first[width], second[width];
    real_t g[width];
    load<width>(p.weight + i, count, weight);
    load<width>(p.first + i, count, first);
    load<width>(p.second + i, count, second);
    masked_gradient<scalar_t, width>(p, i, count, g);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) {
      real_t average = static_cast<real_t>(first[v]), square = static_cast<real_t>(second[v]);
      const real_t change = s.formula.adam(now, g[v], average, square);
      // Where nothing moves and eps is 0 the quotient is none.
      const bool gone = p.mask && v < count && !p.mask[i + v];
      const real_t w = static_cast<real_t>(weight[v]);
      weight[v] = static_cast<scalar_t>(s.formula.without(now, w, gone ? real_t(0) : change));
      first[v] = static_cast<scalar_t>(average);
      second[v] = static_cast<scalar_t>(square);
    }
    store<width>(p.weight + i, count, weight);
    store<width>(p.first + i, count, first);
    store<width>(p.second + i, count, second);
  });
}

template <typename scalar_t, int capacity>
FSC_KERNEL(kPassThreads)
adam_kernel(StepTable<scalar_t, capacity> table, StepScalars<wide_t<scalar_t>> s) {
  const Place place = place_in(table);
  const StepRow<scalar_t>& row = table.rows[place.row];
  row.wide ? adam_pass<kVectorWidth<scalar_t>>(row, s, place.share) : adam_pass<1>(row, s, place.share);
}

template <int width, typename scalar_t>
FSC_DEVICE void sgd_pass(const StepRow<scalar_t>& row, const StepScalars<wide_t<scalar_t>>& s, const Share& share) {
  using real_t = wide_t<scalar_t>;
  const StepPointers<scalar_t>& p = row.p;
  const ScheduledStep now = s.now(row.threshold);
  stride_over<width>(share, row.numel, [&](int64_t i, int count) {
    scalar_t weight[width], first[width];
    real_t g[width];
    load<width>(p.weight + i, count, weight);
    masked_gradient<scalar_t, width>(p, i, count, g);
    if (p.first) load<width>(p.first + i, count, first);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) {
      real_t change = static_cast<real_t>(now.rate) * g[v];
      if (p.first) {
        auto buffer = static_cast<real_t>(first[v]);
        change = s.formula.momentum(now, g[v], buffer);
        first[v] = static_cast<scalar_t>(buffer);
      }
      weight[v] = static_cast<scalar_t>(s.formula.without(now, static_cast<real_t>(weight[v]), change));
    }
    store<width>(p.weight + i, count, weight);
    if (p.first) store<width>(p.first + i, count, first);
  });
}

template <typename scalar_t, int capacity>
FSC_KERNEL(kPassThreads)
sgd_kernel(StepTable<scalar_t, capacity> table, StepScalars<wide_t<scalar_t>> s) {
  const Place place = place_in(table);
  const StepRow<scalar_t>& row = table.rows[place.row];
  row.wide ? sgd_pass<kVectorWidth<scalar_t>>(row, s, place.share) : sgd_pass<1>(row, s, place.share);
}

}  // namespace fsc::device
