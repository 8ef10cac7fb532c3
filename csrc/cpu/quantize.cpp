// Weights on a few evenly spaced values, and the proximal operator that pulls towards them, on the CPU.
#include "quantize.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "cpu/clones.h"

namespace {

constexpr double kSigmas = 3.0;

constexpr int64_t kLanes = 16;

// Smallest, largest and sum of some values; in interleaved lanes, one order that vectorises.
struct Summary {
  double low;
  double high;
  double sum;
};

template <typename scalar_t>
FSC_CLONES Summary summarise(const scalar_t* values, int64_t count) {
  scalar_t low[kLanes], high[kLanes];
  double sums[kLanes] = {};
  std::fill_n(low, kLanes, values[0]);
  std::fill_n(high, kLanes, values[0]);
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const scalar_t value = values[i + lane];
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
      sums[lane] += value;
    }
  }
  for (int64_t i = whole; i < count; ++i) {
    low[0] = std::min(low[0], values[i]);
    high[0] = std::max(high[0], values[i]);
    sums[0] += values[i];
  }
  Summary all{*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes), 0};
  for (const double sum : sums) all.sum += sum;
  return all;
}

template <typename scalar_t>
FSC_CLONES double squares_around(const scalar_t* values, int64_t count, double mean) {
  double sums[kLanes] = {};
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double distance = values[i + lane] - mean;
      sums[lane] += distance * distance;
    }
  }
  for (int64_t i = whole; i < count; ++i) sums[0] += (values[i] - mean) * (values[i] - mean);
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

// The range of values within three standard deviations of their mean.
template <typename scalar_t>
std::pair<double, double> range_of(const scalar_t* values, int64_t count) {
  const Summary all = summarise(values, count);
  const double mean = all.sum / static_cast<double>(count);
  // No comparison finds a NaN, and around infinity there is no range; the sum holds every one of both.
  if (!std::isfinite(mean)) return {std::nan(""), std::nan("")};
  const double reach = kSigmas * std::sqrt(squares_around(values, count, mean) / static_cast<double>(count));
  return {std::max(all.low, mean - reach), std::min(all.high, mean + reach)};
}

// output = (1 - share) input + share Q(input), Q the nearest of the values low + step * (0, 1, ...) up to high.
template <typename scalar_t>
FSC_CLONES void round_all(const scalar_t* __restrict input, scalar_t* __restrict output, int64_t count, double low,
                          double high, double step, double levels, double share) {
  for (int64_t i = 0; i < count; ++i) {
    const double value = input[i];
    double inside = value < low ? low : value;
    inside = inside > high ? high : inside;
    // The last value is `high` itself, which low + step * levels may miss by a rounding.
    const double level = std::nearbyint((inside - low) / step);
    const double nearest = level < levels ? low + step * level : high;
    output[i] = static_cast<scalar_t>((1 - share) * value + share * nearest);
  }
}

template <typename scalar_t>
void quantize_row(const scalar_t* input, scalar_t* output, int64_t count, int64_t levels, double share) {
  const auto [low, high] = range_of(input, count);
  // A constant row has one value; any step will do.
  const double step = high > low ? (high - low) / static_cast<double>(levels) : 1.0;
  round_all(input, output, count, low, high, step, static_cast<double>(levels), share);
}

at::Tensor quantize(const char* op, const at::Tensor& weight, int64_t bits, bool per_channel, double share) {
  fsc::check_quantize(op, weight, bits, per_channel);
  const at::Tensor input = weight.contiguous();
  at::Tensor output = at::empty_like(input);
  if (input.numel() == 0) return output;
  const int64_t rows = per_channel ? input.size(0) : 1;
  const int64_t count = input.numel() / rows;
  AT_DISPATCH_FLOATING_TYPES(input.scalar_type(), "quantize", [&] {
    const scalar_t* source = input.const_data_ptr<scalar_t>();
    scalar_t* destination = output.data_ptr<scalar_t>();
    at::parallel_for(0, rows, std::max<int64_t>(1, (1 << 14) / count), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        quantize_row(source + r * count, destination + r * count, count, (int64_t{1} << bits) - 1, share);
      }
    });
  });
  return output;
}

at::Tensor quantize_weight_cpu(const at::Tensor& weight, int64_t bits, bool per_channel) {
  return quantize("quantize_weight", weight, bits, per_channel, 1);
}

at::Tensor prox_quantize_cpu(const at::Tensor& weight, int64_t bits, double strength, bool per_channel) {
  fsc::check_strength(strength);
  return quantize("prox_quantize", weight, bits, per_channel, strength / (1 + strength));
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("quantize_weight", quantize_weight_cpu);
  m.impl("prox_quantize", prox_quantize_cpu);
}
