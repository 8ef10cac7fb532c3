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

template <typename Body>
void run(int64_t blocks, int threads, const Body& body) {
  fsc::emulation::run({blocks, 1, threads, 64 * sizeof(double), true}, body);
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
  try {
    run(1, 64, [] { half_waits_kernel(); });
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

void product(const float* a, const float* b, float* c) {
  run(1, 32, [&] { product_kernel(a, b, c); });
}
}
