// Small kernels with known results and known faults, for the tests of the host emulator.
#include <stdexcept>
#include <string>

#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor_cores.cuh"

namespace {

using namespace fsc::device;

FSC_KERNEL(64) sum_kernel(const double* values, double* sum) {
  const double total = block_sum(values[block() * num_threads() + thread()], shared<double>());
  if (thread() == 0) sum[block()] = total;
}

// Every thread reads what its neighbour wrote, with or without waiting for it.
FSC_KERNEL(64) neighbour_kernel(double* output, bool waits) {
  double* memory = shared<double>();
  memory[thread()] = thread();
  if (waits) barrier();
  output[thread()] = memory[(thread() + 1) % num_threads()];
}

FSC_KERNEL(64) half_waits_kernel() {
  if (thread() < 32) barrier();
  if (thread() == 0) barrier();
}

// c [16, 8] = a [16, 8] b [8, 8], by one warp.
FSC_KERNEL(32) product_kernel(const float* a, const float* b, float* c) {
  const int g = thread() / 4, t = thread() % 4;
  const auto rounded = [](float value) { return rounded_to_tf32(float_to_bits(value)); };
  const uint32_t left[4] = {rounded(a[g * 8 + t]), rounded(a[(g + 8) * 8 + t]), rounded(a[g * 8 + t + 4]),
                            rounded(a[(g + 8) * 8 + t + 4])};
  const uint32_t right[2] = {rounded(b[t * 8 + g]), rounded(b[(t + 4) * 8 + g])};
  float sums[4] = {};
  mma_tf32(sums, left, right);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

// The two parts that tensor cores read of each value.
FSC_KERNEL(32) split_kernel(const float* values, float* high, float* low) {
  const Split parts = split<false>(values[thread()]);
  high[thread()] = bits_to_float(parts.high & 0xffffe000u);
  low[thread()] = bits_to_float(parts.low & 0xffffe000u);
}

// Blocks in pairs pass values around among themselves `rounds` times, a barrier of the pair after each; rows [0] and
// [1] of `values` [2, blocks] take turns. Block `missing` leaves before the last barrier.
FSC_KERNEL(64) pass_kernel(int64_t* values, unsigned* counters, int rounds, int64_t missing) {
  int64_t* memory = shared<int64_t>();
  for (int r = 0; r < rounds; ++r) {
    if (thread() == 40) memory[0] = load_of_blocks(values + r % 2 * num_blocks() + (block() ^ 1));
    barrier();
    if (thread() == 7) values[(r + 1) % 2 * num_blocks() + block()] = 3 * memory[0] + 1;
    if (block() == missing && r + 1 == rounds) return;
    barrier_of_blocks(counters + block() / 2, 2 * (r + 1));
  }
}

constexpr int kLine = 32;

struct Stage {
  double values[kLine];
};

// How adding up lines [count, 32] goes wrong, or does not.
enum Fault { kNone, kNoWait, kNoBarrier, kPending };

// A thread copies one value of a line and adds its neighbour's; only the first `valid` values of a line count.
FSC_KERNEL(kLine) lines_kernel(const double* lines, int64_t count, int valid, double* sum) {
  auto& stages = *shared<Stage[3]>();
  double total = 0;
  pipeline(
      stages, count,
      [&](int64_t s, Stage& stage) { place(&stage.values[thread()], lines + s * kLine + thread(), thread() < valid); },
      [&](const Stage& stage) { total += stage.values[(thread() + 1) % kLine]; });
  sum[thread()] = total;
}

// The same in two stages, by hand and with one fault.
FSC_KERNEL(kLine) faulty_kernel(const double* lines, int64_t count, double* sum, Fault fault) {
  auto& stages = *shared<Stage[2]>();
  const auto fill = [&](int64_t s) {
    copy_async<8>(&stages[s % 2].values[thread()], lines + s * kLine + thread(), true);
    commit_copies();
  };
  double total = 0;
  fill(0);
  for (int64_t s = 0; s < count; ++s) {
    if (fault != kNoWait) wait_for_copies<0>();
    if (fault != kNoBarrier) barrier();
    if (s + 1 < count || fault == kPending) fill((s + 1) % count);
    total += stages[s % 2].values[(thread() + 1) % kLine];
  }
  if (fault != kPending) wait_for_copies<0>();
  sum[thread()] = total;
}

// A stage that others still read is filled again.
FSC_KERNEL(kLine) early_kernel(const double* lines, double* sum) {
  auto& stage = *shared<Stage>();
  copy_async<8>(&stage.values[thread()], lines + thread(), true);
  commit_copies();
  wait_for_copies<0>();
  barrier();
  copy_async<8>(&stage.values[thread()], lines + thread(), true);
  commit_copies();
  sum[thread()] = stage.values[(thread() + 1) % kLine];
  wait_for_copies<0>();
}

// Four floats from any address.
FSC_KERNEL(1) vector_kernel(const float* from, float* to) {
  copy_async<16>(shared<float>(), from, true);
  commit_copies();
  wait_for_copies<0>();
  for (int i = 0; i < 4; ++i) to[i] = shared<float>()[i];
}

template <typename Body>
void run(int64_t blocks, int threads, const Body& body, bool together = false) {
  fsc::emulation::run({blocks, 1, threads, 3 * sizeof(Stage), true, together}, body);
}

// What the emulator says against a kernel; nothing where it is content.
template <typename Body>
const char* complaint(int threads, const Body& body, int64_t blocks = 1, bool together = false) {
  static std::string said;
  said.clear();
  try {
    run(blocks, threads, body, together);
  } catch (const std::runtime_error& error) {
    said = error.what();
  }
  return said.c_str();
}

}  // namespace

extern "C" {

void sums(const double* values, double* found, int64_t blocks) {
  run(blocks, 64, [&] { sum_kernel(values, found); });
}

void neighbours(double* output, bool waits) {
  run(1, 64, [&] { neighbour_kernel(output, waits); });
}

const char* half_waits() {
  return complaint(64, [] { half_waits_kernel(); });
}

const char* lines(const double* values, int64_t count, int valid, double* sum) {
  return complaint(kLine, [&] { lines_kernel(values, count, valid, sum); });
}

const char* faulty_lines(const double* values, int64_t count, double* sum, int fault) {
  return complaint(kLine, [&] { faulty_kernel(values, count, sum, static_cast<Fault>(fault)); });
}

const char* early_lines(const double* values, double* sum) {
  return complaint(kLine, [&] { early_kernel(values, sum); });
}

const char* vector(const float* from, float* to) {
  return complaint(1, [&] { vector_kernel(from, to); });
}

const char* pass_on(int64_t* values, unsigned* counters, int64_t blocks, int rounds, int64_t missing, bool together) {
  return complaint(64, [&] { pass_kernel(values, counters, rounds, missing); }, blocks, together);
}

void product(const float* a, const float* b, float* c) {
  run(1, 32, [&] { product_kernel(a, b, c); });
}

void split_values(const float* values, float* high, float* low) {
  run(1, 32, [&] { split_kernel(values, high, low); });
}
}
