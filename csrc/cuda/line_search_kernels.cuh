// The exact line search behind a ReLU on the device, one block a row; no ATen here.
#pragma once

#include <cstdint>

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fsc {

// Matrices [rows, count] of a layer's output, its direction and its target.
template <typename scalar_t>
struct LineSearch {
  scalar_t* output;
  const scalar_t* direction;
  const scalar_t* target;
  scalar_t* residual;
  scalar_t* steps;  // [rows]
  double* losses;   // [rows]
  int64_t rows;
  int64_t count;
  double epsilon;  // of scalar_t
};

namespace device {

constexpr int kSearchThreads = 512;
constexpr int kHalvings = 20;
// Vectors that a thread sums in the dtype's own wide type before it goes on in float64.
constexpr int kTurns = 8;

// The objective of a row along its direction, and half its first and second derivatives.
template <typename real_t>
struct Along {
  real_t loss = 0;
  real_t slope = 0;
  real_t curvature = 0;
};

template <typename scalar_t>
struct SearchRow {
  scalar_t* output;
  const scalar_t* direction;
  const scalar_t* target;
  scalar_t* residual;
  int64_t count;
};

// What the output holds after a step: rounded, so that the loss is that of the values that are stored.
template <typename scalar_t>
FSC_DEVICE wide_t<scalar_t> moved(scalar_t output, scalar_t direction, scalar_t step) {
  using real_t = wide_t<scalar_t>;
  return static_cast<real_t>(
      static_cast<scalar_t>(static_cast<real_t>(output) + static_cast<real_t>(step) * static_cast<real_t>(direction)));
}

template <typename scalar_t>
FSC_DEVICE scalar_t rounded(double step) {
  return static_cast<scalar_t>(static_cast<wide_t<scalar_t>>(step));
}

// Adds (relu(X) - T)^2, 1[X > 0] (X - T) Q and 1[X > 0] Q^2 with X = S + step Q over one vector.
template <int width, typename scalar_t>
FSC_DEVICE void add_vector(const SearchRow<scalar_t>& row, int64_t i, scalar_t step, Along<wide_t<scalar_t>>& along) {
  using real_t = wide_t<scalar_t>;
  scalar_t s[width], q[width], t[width];
  load<width>(row.output + i, width, s);
  load<width>(row.direction + i, width, q);
  load<width>(row.target + i, width, t);
  FSC_UNROLL
  for (int v = 0; v < width; ++v) {
    const real_t x = moved(s[v], q[v], step);
    const bool off = x <= 0;
    const real_t difference = (off ? real_t(0) : x) - static_cast<real_t>(t[v]);
    const real_t slant = off ? real_t(0) : static_cast<real_t>(q[v]);
    along.loss += difference * difference;
    along.slope += difference * slant;
    along.curvature += slant * slant;
  }
}

// The sums over a row, the same bits for every thread of the block. Where width is above 1 it divides `count`.
template <int width, typename scalar_t>
FSC_DEVICE Along<double> along_at(const SearchRow<scalar_t>& row, double step, double* scratch) {
  Along<double> all;
  const int64_t turn = num_threads() * width;
  for (int64_t begin = thread() * width; begin < row.count; begin += kTurns * turn) {
    Along<wide_t<scalar_t>> some;
    const int64_t end = begin + kTurns * turn < row.count ? begin + kTurns * turn : row.count;
    for (int64_t i = begin; i < end; i += turn) add_vector<width>(row, i, rounded<scalar_t>(step), some);
    all.loss += static_cast<double>(some.loss);
    all.slope += static_cast<double>(some.slope);
    all.curvature += static_cast<double>(some.curvature);
  }
  all.loss = block_sum(all.loss, scratch);
  all.slope = block_sum(all.slope, scratch);
  all.curvature = block_sum(all.curvature, scratch);
  return all;
}

// Newton's step on the piece of the parabola that `along` was taken from.
FSC_DEVICE double newton(double step, const Along<double>& along) {
  return along.curvature > 0 ? step - along.slope / along.curvature : step;
}

struct Best {
  double step;
  double loss;

  FSC_DEVICE void offer(double other, double other_loss) {
    if (other_loss < loss) *this = {other, other_loss};
  }
};

// The step and the loss there: two Newton steps, and halves of the first where neither descends. Every thread
// knows the same sums, so that all take the same way through the barriers in `along_at`.
template <int width, typename scalar_t>
FSC_DEVICE Best search(const SearchRow<scalar_t>& row, double epsilon, double* scratch) {
  const Along<double> start = along_at<width>(row, 0, scratch);
  Best best{0, start.loss};
  if (!(start.slope < 0)) return best;
  double step = newton(0, start);
  // A promise below rounding cannot be told from noise.
  if (!(-start.slope * step > epsilon * start.loss)) return best;
  const Along<double> first = along_at<width>(row, step, scratch);
  best.offer(step, first.loss);
  const double refined = newton(step, first);
  if (refined > 0 && refined != step) best.offer(refined, along_at<width>(row, refined, scratch).loss);
  for (int halving = 0; best.step == 0 && halving < kHalvings; ++halving) {
    step /= 2;
    best.offer(step, along_at<width>(row, step, scratch).loss);
  }
  return best;
}

template <int width, typename scalar_t>
FSC_DEVICE void move(const SearchRow<scalar_t>& row, scalar_t step) {
  using real_t = wide_t<scalar_t>;
  for (int64_t i = thread() * width; i < row.count; i += num_threads() * width) {
    scalar_t s[width], q[width], t[width];
    load<width>(row.output + i, width, s);
    load<width>(row.direction + i, width, q);
    load<width>(row.target + i, width, t);
    FSC_UNROLL
    for (int v = 0; v < width; ++v) {
      const real_t x = moved(s[v], q[v], step);
      s[v] = static_cast<scalar_t>(x);
      t[v] = static_cast<scalar_t>(x <= 0 ? real_t(0) : x - static_cast<real_t>(t[v]));
    }
    store<width>(row.output + i, width, s);
    store<width>(row.residual + i, width, t);
  }
}

template <typename scalar_t, int width>
FSC_KERNEL(kSearchThreads)
line_search_relu_kernel(LineSearch<scalar_t> p) {
  for (int64_t r = block(); r < p.rows; r += num_blocks()) {
    const int64_t b = r * p.count;
    const SearchRow<scalar_t> row{p.output + b, p.direction + b, p.target + b, p.residual + b, p.count};
    const Best best = search<width>(row, p.epsilon, shared<double>());
    const auto step = rounded<scalar_t>(best.step);
    move<width>(row, step);
    if (thread() == 0) {
      p.steps[r] = step;
      p.losses[r] = best.loss;
    }
  }
}

}  // namespace device
}  // namespace fsc
