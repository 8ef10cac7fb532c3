// The exact line search behind a ReLU: each row of a layer's output is a problem of its own.
#include "line_search.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "cpu/clones.h"
#include "version_counter.h"

namespace {

// Summed in the dtype of the tensors over a block of a row, in lanes that vectorise, and in float64
// over the blocks, in order.
constexpr int64_t kBlock = 1024;
constexpr int64_t kLaneBytes = 64;
constexpr int kHalvings = 20;

template <typename scalar_t>
constexpr int64_t kLanes = kLaneBytes / sizeof(scalar_t);

// The objective of a row along its direction, and half its first and second derivatives.
struct Along {
  double loss = 0;
  double slope = 0;
  double curvature = 0;
};

// Adds up (relu(X) - T)^2, 1[X > 0] (X - T) Q and 1[X > 0] Q^2 with X = S + step Q over whole lanes.
template <typename scalar_t>
FSC_CLONES void add_lanes(const scalar_t* output, const scalar_t* direction, const scalar_t* target, int64_t count,
                          scalar_t step, Along* along) {
  constexpr int64_t lanes = kLanes<scalar_t>;
  scalar_t loss[lanes] = {}, slope[lanes] = {}, curvature[lanes] = {};
  for (int64_t i = 0; i < count; i += lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const scalar_t x = output[i + lane] + step * direction[i + lane];
      const bool off = x <= 0;
      const scalar_t difference = (off ? scalar_t{0} : x) - target[i + lane];
      const scalar_t slant = off ? scalar_t{0} : direction[i + lane];
      loss[lane] += difference * difference;
      slope[lane] += difference * slant;
      curvature[lane] += slant * slant;
    }
  }
  for (int64_t lane = 0; lane < lanes; ++lane) {
    along->loss += loss[lane];
    along->slope += slope[lane];
    along->curvature += curvature[lane];
  }
}

template <typename scalar_t>
void add_block(const scalar_t* output, const scalar_t* direction, const scalar_t* target, int64_t count, scalar_t step,
               Along* along) {
  constexpr int64_t lanes = kLanes<scalar_t>;
  const int64_t whole = count - count % lanes;
  add_lanes(output, direction, target, whole, step, along);
  if (whole == count) return;
  scalar_t rest[3][lanes] = {};  // zeros add nothing
  std::copy_n(output + whole, count - whole, rest[0]);
  std::copy_n(direction + whole, count - whole, rest[1]);
  std::copy_n(target + whole, count - whole, rest[2]);
  add_lanes(rest[0], rest[1], rest[2], lanes, step, along);
}

template <typename scalar_t>
FSC_CLONES void move_block(scalar_t* output, const scalar_t* direction, const scalar_t* target, scalar_t* residual,
                           int64_t count, scalar_t step) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const scalar_t x = output[i] + step * direction[i];
    output[i] = x;
    residual[i] = x <= 0 ? scalar_t{0} : x - target[i];
  }
}

template <typename scalar_t>
struct Row {
  scalar_t* output;
  const scalar_t* direction;
  const scalar_t* target;
  scalar_t* residual;
  int64_t count;

  Along at(double step) const {
    Along along;
    for (int64_t b = 0; b < count; b += kBlock) {
      add_block(output + b, direction + b, target + b, std::min(kBlock, count - b), static_cast<scalar_t>(step),
                &along);
    }
    return along;
  }

  void move(double step) const {
    for (int64_t b = 0; b < count; b += kBlock) {
      move_block(output + b, direction + b, target + b, residual + b, std::min(kBlock, count - b),
                 static_cast<scalar_t>(step));
    }
  }
};

// Newton's step on the piece of the parabola that `along` was taken from.
double newton(double step, const Along& along) {
  return along.curvature > 0 ? step - along.slope / along.curvature : step;
}

// The step and the loss there: two Newton steps, and halves of the first where neither descends.
template <typename scalar_t>
std::pair<double, double> search(const Row<scalar_t>& row) {
  const Along start = row.at(0);
  std::pair<double, double> best{0, start.loss};
  if (!(start.slope < 0)) return best;
  double step = newton(0, start);
  // A promise below rounding cannot be told from noise.
  if (!(-start.slope * step > std::numeric_limits<scalar_t>::epsilon() * start.loss)) return best;
  const Along first = row.at(step);
  if (first.loss < best.second) best = {step, first.loss};
  const double refined = newton(step, first);
  if (refined > 0 && refined != step) {
    const double loss = row.at(refined).loss;
    if (loss < best.second) best = {refined, loss};
  }
  for (int halving = 0; best.first == 0 && halving < kHalvings; ++halving) {
    step /= 2;
    const double loss = row.at(step).loss;
    if (loss < best.second) best = {step, loss};
  }
  return best;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> line_search_relu_cpu_(at::Tensor& output, const at::Tensor& direction,
                                                                     const at::Tensor& target) {
  fsc::check_line_search("line_search_relu_", output, direction, target);
  const int64_t rows = output.size(0);
  const int64_t count = output.size(1);
  const at::Tensor along = direction.contiguous();
  const at::Tensor goal = target.contiguous();
  at::Tensor residual = at::empty_like(output);
  at::Tensor steps = at::empty({rows}, output.options());
  at::Tensor losses = at::empty({rows}, output.options().dtype(at::kDouble));
  AT_DISPATCH_FLOATING_TYPES(output.scalar_type(), "line_search_relu_", [&] {
    scalar_t* step = steps.data_ptr<scalar_t>();
    double* loss = losses.data_ptr<double>();
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t b = r * count;
        const Row<scalar_t> row{output.data_ptr<scalar_t>() + b, along.const_data_ptr<scalar_t>() + b,
                                goal.const_data_ptr<scalar_t>() + b, residual.data_ptr<scalar_t>() + b, count};
        const auto [best, lowest] = search(row);
        row.move(best);
        step[r] = static_cast<scalar_t>(best);
        loss[r] = lowest;
      }
    });
  });
  fsc::mark_changed(output);
  return {steps, losses, residual};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) { m.impl("line_search_relu_", line_search_relu_cpu_); }
