// Slabs of shared memory in stages: while one stage is worked on, the next are on their way from global memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/device.cuh"
#include "cuda/vector.cuh"

namespace fsc::device {

// Two, so that a block with four slabs of a stage stays below the shared memory of every GPU.
constexpr int kStages = 2;

// Calls work(stage) for the stages that fill(number, stage) fills, number in [0, count); one barrier each. What fill
// places is there, for all threads of the block, when work begins. What it has in registers instead, keep(stage) writes
// to the stage, after the work that those loads were behind. Others may still read the last stages at the end.
template <typename Stage, int stages, typename Fill, typename Keep, typename Work>
FSC_DEVICE void pipeline(Stage (&memory)[stages], int64_t count, const Fill& fill, const Keep& keep, const Work& work) {
  // One loop, from before the first stage on, so that what fills is compiled once.
  FSC_ROLLED
  for (int64_t s = 1 - stages; s < count; ++s) {
    if (s >= 0) {
      wait_for_copies<stages - 2>();
      // Now the copies of all threads are there, and none reads the stage that is filled next.
      barrier();
    }
    const int64_t next = s + stages - 1;
    if (next < count) fill(next, memory[next % stages]);
    commit_copies();
    if (s >= 0) work(memory[s % stages]);
    if (next < count) keep(memory[next % stages]);
  }
}

template <typename Stage, int stages, typename Fill, typename Work>
FSC_DEVICE void pipeline(Stage (&memory)[stages], int64_t count, const Fill& fill, const Work& work) {
  pipeline(memory, count, fill, [](Stage&) {}, work);
}

// Writes `width` values to a stage, zeros where `valid` is false: as a copy that the pipeline waits for where nothing
// happens to them on their way, by way of registers where they are converted. Both addresses are multiples of
// `width` values.
template <int width = 1, typename scalar_t, typename real_t>
FSC_DEVICE void place(real_t* to, const scalar_t* from, bool valid) {
  if constexpr (std::is_same_v<scalar_t, real_t>) {
    copy_async<width * sizeof(real_t)>(to, from, valid);
  } else {
    scalar_t values[width];
    load<width>(from, valid ? width : 0, values);
    FSC_UNROLL
    for (int i = 0; i < width; ++i) to[i] = static_cast<real_t>(values[i]);
  }
}

}  // namespace fsc::device
