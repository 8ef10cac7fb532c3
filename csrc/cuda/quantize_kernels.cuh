// Ranges of rows and the rounding to evenly spaced values on the device; no ATen here.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fsc {

// Rows [rows, count] that are cut in parts, so that one long row keeps many blocks busy.
struct Cut {
  int64_t rows;
  int64_t count;
  int64_t parts;   // of a row
  int64_t length;  // of a part; the last one may be shorter
};

// What is known of one part of a row.
struct Part {
  double low;
  double high;
  double sum;
  double squares;  // of the distances to the mean of the whole row
};

namespace device {

constexpr int kQuantizeThreads = 256;
constexpr double kSigmas = 3.0;

FSC_DEVICE double lower(double a, double b) { return b < a ? b : a; }
FSC_DEVICE double higher(double a, double b) { return b > a ? b : a; }

// The lowest value of a block where `pick` is `lower`, the highest where it is `higher`; for every thread.
template <typename Pick>
FSC_DEVICE double block_pick(double value, double* scratch, const Pick& pick) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value = pick(value, shuffle_xor(value, lanes));
  barrier();  // the scratch may still be read
  if (thread() % kWarp == 0) scratch[thread() / kWarp] = value;
  barrier();
  double found = scratch[0];
  for (int w = 1; w < num_threads() / kWarp; ++w) found = pick(found, scratch[w]);
  return found;
}

// Calls visit(element of the row, how many up to `width`) for this thread's share of a part.
template <int width, typename Visit>
FSC_DEVICE void visit_part(const Cut& cut, int64_t part, const Visit& visit) {
  const int64_t begin = part * cut.length;
  const int64_t end = begin + cut.length < cut.count ? begin + cut.length : cut.count;
  for (int64_t i = begin + thread() * width; i < end; i += num_threads() * width) {
    visit(i, static_cast<int>(end - i < width ? end - i : width));
  }
}

// ---- what the range is made of ----

// Smallest, largest and sum, one block a part.
template <typename scalar_t, int width>
FSC_KERNEL(kQuantizeThreads)
summarise_kernel(const scalar_t* input, Part* parts, Cut cut) {
  for (int64_t p = block(); p < cut.rows * cut.parts; p += num_blocks()) {
    const scalar_t* row = input + p / cut.parts * cut.count;
    double low = INFINITY, high = -INFINITY, sum = 0;
    visit_part<width>(cut, p % cut.parts, [&](int64_t i, int count) {
      scalar_t values[width];
      load<width>(row + i, count, values);
      FSC_UNROLL
      for (int v = 0; v < width; ++v) {
        const auto value = static_cast<double>(values[v]);
        sum += value;  // elements beyond the row are zero
        low = v < count ? lower(low, value) : low;
        high = v < count ? higher(high, value) : high;
      }
    });
    auto* scratch = shared<double>();
    sum = block_sum(sum, scratch);
    low = block_pick(low, scratch, [](double a, double b) { return lower(a, b); });
    high = block_pick(high, scratch, [](double a, double b) { return higher(a, b); });
    if (thread() == 0) parts[p] = {low, high, sum, 0};
  }
}

// The mean of a row, from its parts.
FSC_DEVICE double mean_of(const Part* parts, const Cut& cut, double* scratch) {
  double sum = 0;
  for (int64_t p = thread(); p < cut.parts; p += num_threads()) sum += parts[p].sum;
  return block_sum(sum, scratch) / static_cast<double>(cut.count);
}

// Squared distances to the mean of the row, one block a part.
template <typename scalar_t, int width>
FSC_KERNEL(kQuantizeThreads)
squares_kernel(const scalar_t* input, Part* parts, Cut cut) {
  auto* scratch = shared<double>();
  for (int64_t p = block(); p < cut.rows * cut.parts; p += num_blocks()) {
    const scalar_t* row = input + p / cut.parts * cut.count;
    const double mean = mean_of(parts + p / cut.parts * cut.parts, cut, scratch);
    double squares = 0;
    visit_part<width>(cut, p % cut.parts, [&](int64_t i, int count) {
      scalar_t values[width];
      load<width>(row + i, count, values);
      FSC_UNROLL
      for (int v = 0; v < width; ++v) {
        const double distance = static_cast<double>(values[v]) - mean;
        squares += v < count ? distance * distance : 0.0;
      }
    });
    squares = block_sum(squares, scratch);
    if (thread() == 0) parts[p].squares = squares;
  }
}

// ---- rounding ----

struct Range {
  double low;
  double high;
};

// The range of the values of a row within three standard deviations of their mean.
FSC_DEVICE Range range_of(const Part* parts, const Cut& cut, double* scratch) {
  double low = INFINITY, high = -INFINITY, squares = 0;
  for (int64_t p = thread(); p < cut.parts; p += num_threads()) {
    low = lower(low, parts[p].low);
    high = higher(high, parts[p].high);
    squares += parts[p].squares;
  }
  low = block_pick(low, scratch, [](double a, double b) { return lower(a, b); });
  high = block_pick(high, scratch, [](double a, double b) { return higher(a, b); });
  const double mean = mean_of(parts, cut, scratch);
  const double reach = kSigmas * std::sqrt(block_sum(squares, scratch) / static_cast<double>(cut.count));
  // No comparison finds a NaN, and around infinity there is no range; the mean holds every one of both.
  if (!std::isfinite(mean)) return {NAN, NAN};
  return {higher(low, mean - reach), lower(high, mean + reach)};
}

// output = (1 - share) input + share Q(input), Q the nearest of the `levels` + 1 values from low to high.
template <typename scalar_t, int width>
FSC_KERNEL(kQuantizeThreads)
round_kernel(const scalar_t* input, scalar_t* output, const Part* parts, Cut cut, double levels, double share) {
  for (int64_t p = block(); p < cut.rows * cut.parts; p += num_blocks()) {
    const int64_t row = p / cut.parts;
    const Range range = range_of(parts + row * cut.parts, cut, shared<double>());
    // A constant row has one value; any step will do.
    const double step = range.high > range.low ? (range.high - range.low) / levels : 1.0;
    visit_part<width>(cut, p % cut.parts, [&](int64_t i, int count) {
      scalar_t values[width];
      load<width>(input + row * cut.count + i, count, values);
      FSC_UNROLL
      for (int v = 0; v < width; ++v) {
        const auto value = static_cast<double>(values[v]);
        double inside = value < range.low ? range.low : value;
        inside = inside > range.high ? range.high : inside;
        // The last value is `high` itself, which low + step * levels may miss by a rounding.
        const double level = std::nearbyint((inside - range.low) / step);
        const double nearest = level < levels ? range.low + step * level : range.high;
        values[v] = static_cast<scalar_t>((1 - share) * value + share * nearest);
      }
      store<width>(output + row * cut.count + i, count, values);
    });
  }
}

}  // namespace device
}  // namespace fsc
