// Small kernels with known results and known faults, for the tests of the host emulator.
#include <stdexcept>

#include "cuda/reduce.cuh"

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
  const uint32_t left[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]), to_tf32(a[g * 8 + t + 4]),
                            to_tf32(a[(g + 8) * 8 + t + 4])};
  const uint32_t right[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
  float sums[4] = {};
  mma_tf32(sums, left, right);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
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

template <typename Body>
void run(int64_t blocks, int threads, const Body& body, bool together = false) {
  fsc::emulation::run({blocks, 1, threads, 64 * sizeof(double), true, together}, body);
}

template <typename Body>
bool is_refused(int64_t blocks, const Body& body, bool together) {
  try {
    run(blocks, 64, body, together);
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

}  // namespace

extern "C" {

void sums(const double* values, double* found, int64_t blocks) {
  run(blocks, 64, [&] { sum_kernel(values, found); });
}

void neighbours(double* output, bool waits) {
  run(1, 64, [&] { neighbour_kernel(output, waits); });
}

bool half_waits_is_refused() {
  return is_refused(1, [] { half_waits_kernel(); }, false);
}

// Returns whether the emulator found that blocks wait for ever.
bool passed_on(int64_t* values, unsigned* counters, int64_t blocks, int rounds, int64_t missing, bool together) {
  return is_refused(blocks, [&] { pass_kernel(values, counters, rounds, missing); }, together);
}

void product(const float* a, const float* b, float* c) {
  run(1, 32, [&] { product_kernel(a, b, c); });
}
}
