// OpenMP as threads that ThreadSanitizer sees. The library of GCC is not compiled for it: its threads wait for each
// other in ways that it does not know, and every result that one leaves for another would be reported. These are
// started for each loop and end with it.
#include <ATen/Parallel.h>

#include <thread>
#include <utility>
#include <vector>

namespace {

thread_local int number = 0;
thread_local int together = 1;

void take_part(void (*work)(void*), void* data, int as, int of) {
  const int outer = std::exchange(number, as), others = std::exchange(together, of);
  work(data);
  number = outer;
  together = others;
}

}  // namespace

// What the compiler makes of `#pragma omp parallel`, and what ATen/ParallelOpenMP.h asks for within.
extern "C" {

int omp_get_thread_num() noexcept { return number; }

int omp_get_num_threads() noexcept { return together; }

void GOMP_parallel(void (*work)(void*), void* data, unsigned, unsigned) {
  const int count = together > 1 ? 1 : at::get_num_threads();  // one in a loop within a loop
  std::vector<std::thread> others;
  for (int i = 1; i < count; ++i) others.emplace_back(take_part, work, data, i, count);
  take_part(work, data, 0, count);
  for (std::thread& other : others) other.join();
}
}
