// The element-wise passes of cross distillation on the device; no ATen here.
#pragma once

#include <cstdint>
#include <limits>

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fsc::device {

constexpr int kMixThreads = 256;

// Both mixtures of one pass over the inputs; a null one is not written.
template <typename scalar_t, int width>
FSC_KERNEL(kMixThreads)
mix_kernel(const scalar_t* teacher, const scalar_t* student, scalar_t* mixed_teacher, scalar_t* mixed_student,
           int64_t numel, double alpha, double beta) {
  using real_t = wide_t<scalar_t>;
  const real_t own = alpha, other = 1 - alpha, borrowed = 1 - beta, kept = beta;
  stride_over<width>(numel, [&](int64_t i, int count) {
    scalar_t t[width], s[width], mixture[width];
    load<width>(teacher + i, count, t);
    load<width>(student + i, count, s);
    if (mixed_teacher) {
      FSC_UNROLL
      for (int v = 0; v < width; ++v) {
        mixture[v] = static_cast<scalar_t>(own * static_cast<real_t>(t[v]) + other * static_cast<real_t>(s[v]));
      }
      store<width>(mixed_teacher + i, count, mixture);
    }
    if (mixed_student) {
      FSC_UNROLL
      for (int v = 0; v < width; ++v) {
        mixture[v] = static_cast<scalar_t>(borrowed * static_cast<real_t>(t[v]) + kept * static_cast<real_t>(s[v]));
      }
      store<width>(mixed_student + i, count, mixture);
    }
  });
}

// What the epilogue does to a preactivation.
struct Epilogue {
  bool relu;
  bool relu_target;
};

// The difference act(S) - T, and the residual: zero where the activation's slope is.
template <typename real_t>
struct Compared {
  real_t difference;
  real_t residual;

  FSC_DEVICE double square() const { return static_cast<double>(difference) * static_cast<double>(difference); }
};

// Where an activation is flat: up to 0, or nowhere, which no value is at or below. A number instead of a branch.
template <typename real_t>
FSC_DEVICE real_t flat_up_to(bool relu) {
  return relu ? real_t(0) : std::numeric_limits<real_t>::quiet_NaN();
}

// Compared as x <= 0, so that NaN stays NaN.
template <typename real_t>
FSC_DEVICE Compared<real_t> compare(real_t s, real_t t, real_t flat_up_to, real_t flat_up_to_target) {
  const bool flat = s <= flat_up_to;
  const real_t d = (flat ? real_t(0) : s) - (t <= flat_up_to_target ? real_t(0) : t);
  return {d, flat ? real_t(0) : d};
}

template <typename real_t>
FSC_DEVICE Compared<real_t> compare(real_t s, real_t t, const Epilogue& epilogue) {
  return compare(s, t, flat_up_to<real_t>(epilogue.relu), flat_up_to<real_t>(epilogue.relu_target));
}

// Residual and, for every block, the sum of squared differences.
template <typename scalar_t, int width>
FSC_KERNEL(kMixThreads)
residual_kernel(const scalar_t* preactivation, const scalar_t* target, scalar_t* residual, double* sums, int64_t numel,
                Epilogue epilogue) {
  using real_t = wide_t<scalar_t>;
  double sum = 0;
  stride_over<width>(numel, [&](int64_t i, int count) {
    scalar_t s[width], t[width];
    load<width>(preactivation + i, count, s);
    load<width>(target + i, count, t);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) {
      const auto compared = compare(static_cast<real_t>(s[v]), static_cast<real_t>(t[v]), epilogue);
      // Beyond the end both are zero.
      sum += compared.square();
      s[v] = static_cast<scalar_t>(compared.residual);
    }
    store<width>(residual + i, count, s);
  });
  sum = block_sum(sum, shared<double>());
  if (thread() == 0) sums[block()] = sum;
}

// The sum of all blocks' sums in a fixed order, for every thread of the one block that takes it.
FSC_DEVICE double total(const double* sums, int64_t count) {
  double sum = 0;
  for (int64_t i = thread(); i < count; i += num_threads()) sum += sums[i];
  return block_sum(sum, shared<double>());
}

template <typename result_t>
FSC_KERNEL(kMixThreads)
total_kernel(const double* sums, int64_t count, double scale, result_t* result) {
  const double sum = total(sums, count);
  if (thread() == 0) *result = static_cast<result_t>(scale * sum);
}

}  // namespace fsc::device
