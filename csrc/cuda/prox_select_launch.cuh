// Launches that choose the largest of many values: one block alone for few of them, all multiprocessors for more. They
// wait for nothing and can be recorded.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "cuda/launch.cuh"
#include "cuda/prox_select_kernels.cuh"

namespace fsc {

// Up to here one launch of one block takes less time than several of many.
constexpr int64_t kFewValues = 1 << 14;

// The memory that a choice among values of one size needs, allocated once for all steps of a loop.
template <typename value_t>
class Selection {
 public:
  Selection() = default;
  Selection(int64_t size, const at::TensorOptions& options) : size_(size) {
    // Kernels count in 32 bits.
    TORCH_CHECK(size <= std::numeric_limits<int>::max(),
                "fsc_ext: the largest can be chosen among fewer than 2^31 values on a CUDA device, got ", size);
    if (size <= kFewValues) return;
    blocks_ = std::min(ceil_div(size, 4 * device::kSelectThreads), 2 * multiprocessors());
    constexpr int64_t settled = kPasses * sizeof(device::Settled) / sizeof(int);
    const int64_t total = kPasses * device::kDigits + settled + blocks_;
    memory_ = at::zeros({total}, options.dtype(at::kInt).memory_format(std::nullopt));
  }

  // Marks the `stay` largest magnitudes; what `kept` names becomes zero where the others are.
  void mark(const value_t* values, const device::Amount& stay, const device::Kept<value_t>& kept) const {
    if (size_ == 0) return;
    const device::Choice<value_t> choice{values, size_, stay, 0};
    if (blocks_ == 0) return launch<true>(grid(1), device::mark_alone_kernel<value_t>, choice, kept);
    count(choice);
    launch<true>(grid(blocks_), device::count_ties_kernel<value_t>, choice, space());
    launch<true>(grid(blocks_), device::mark_kernel<value_t>, choice, space(), kept);
  }

  // The largest magnitude that goes when the `stay` largest stay.
  void find_gone(const value_t* values, const device::Amount& stay, double* found) const {
    const device::Choice<value_t> choice{values, size_, stay, 1};
    if (blocks_ == 0) return launch<true>(grid(1), device::find_alone_kernel<value_t>, choice, found);
    count(choice);
    launch<true>(grid(1), device::find_kernel<value_t>, choice, space(), found);
  }

 private:
  static constexpr int kPasses = device::kDigitPasses<value_t>;

  static Grid grid(int64_t blocks) { return {blocks, device::kSelectThreads, sizeof(device::SelectMemory)}; }

  void count(const device::Choice<value_t>& choice) const {
    for (int pass = 0; pass < kPasses; ++pass) {
      launch<true>(grid(blocks_), device::count_digits_kernel<value_t>, choice, space(), pass);
    }
  }

  device::SelectSpace space() const {
    int* counts = memory_.data_ptr<int>();
    auto* settled = reinterpret_cast<device::Settled*>(counts + kPasses * device::kDigits);
    return {counts, settled, reinterpret_cast<int*>(settled + kPasses), ceil_div(size_, blocks_)};
  }

  int64_t size_ = 0;
  int64_t blocks_ = 0;  // none where one block works alone
  at::Tensor memory_;   // what SelectSpace points to
};

}  // namespace fsc
