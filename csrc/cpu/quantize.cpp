// Weights on a few evenly spaced values, and the proximal operator that pulls towards them, on the CPU.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "check.h"

namespace {

constexpr double kSigmas = 3.0;
constexpr int64_t kMaxBits = 8;

// The range of values within three standard deviations of their mean. Sums in one order, in float64.
template <typename scalar_t>
std::pair<double, double> range_of(const scalar_t* values, int64_t count) {
  double sum = 0, squares = 0, low = values[0], high = values[0];
  for (int64_t i = 0; i < count; ++i) {
    const double value = values[i];
    sum += value;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  const double mean = sum / static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) squares += (values[i] - mean) * (values[i] - mean);
  const double reach = kSigmas * std::sqrt(squares / static_cast<double>(count));
  return {std::max(low, mean - reach), std::min(high, mean + reach)};
}

// output = (1 - share) input + share Q(input), Q the nearest of `levels` + 1 values from low to high.
template <typename scalar_t>
void quantize_row(const scalar_t* input, scalar_t* output, int64_t count, int64_t levels, double share) {
  const auto [low, high] = range_of(input, count);
  const double step = (high - low) / static_cast<double>(levels);
  for (int64_t i = 0; i < count; ++i) {
    const double value = input[i];
    const double inside = std::clamp(value, low, high);
    const double nearest = step > 0 ? low + step * std::nearbyint((inside - low) / step) : low;
    output[i] = static_cast<scalar_t>(share == 1 ? nearest : (1 - share) * value + share * nearest);
  }
}

at::Tensor quantize(const char* op, const at::Tensor& weight, int64_t bits, bool per_channel, double share) {
  fsc::check_floating(op, "weight", weight);
  TORCH_CHECK(bits >= 1 && bits <= kMaxBits, op, ": bits must be in [1, ", kMaxBits, "], got ", bits);
  TORCH_CHECK(!per_channel || weight.dim() >= 1, op, ": weight must have output channels, so rank at least 1, got ",
              weight.sizes());
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
  TORCH_CHECK(std::isfinite(strength) && strength >= 0, "prox_quantize: strength must be finite and at least 0, got ",
              strength);
  return quantize("prox_quantize", weight, bits, per_channel, strength / (1 + strength));
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("quantize_weight", quantize_weight_cpu);
  m.impl("prox_quantize", prox_quantize_cpu);
}
