// Whether tensors that an operator changes in place have memory of their own.
#pragma once

#include <ATen/MemoryOverlap.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

// Where a tensor lies; of one with gaps only the first element counts, because others may lie in them.
struct Range {
  const char* begin;
  const char* end;
  Argument name;
};

class Apart {
 public:
  explicit Apart(const char* op) : op_(op) {}

  void changes(const at::Tensor& tensor, const Argument& name) {
    TORCH_CHECK(at::has_internal_overlap(tensor) != at::MemOverlap::Yes, op_, ": ", name,
                " must have memory for each of its elements, got strides ", tensor.strides());
    if (tensor.numel() > 0) changed_.push_back(range_of(tensor, name));
  }

  void reads(const at::Tensor& tensor, const Argument& name) {
    if (tensor.numel() > 0) read_.push_back(range_of(tensor, name));
  }

  // What is changed twice, or read elsewhere while it changes, would have no defined value.
  void check() {
    std::stable_sort(changed_.begin(), changed_.end(),
                     [](const Range& a, const Range& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < changed_.size(); ++i) require(changed_[i - 1], changed_[i]);
    for (const Range& range : read_) {
      const auto behind = std::upper_bound(changed_.begin(), changed_.end(), range,
                                           [](const Range& a, const Range& b) { return a.begin < b.begin; });
      if (behind != changed_.end()) require(*behind, range);
      if (behind != changed_.begin()) require(*(behind - 1), range);
    }
  }

 private:
  static Range range_of(const at::Tensor& tensor, const Argument& name) {
    const auto* begin = static_cast<const char*>(tensor.const_data_ptr());
    const bool dense = tensor.is_non_overlapping_and_dense();
    return {begin, begin + (dense ? tensor.numel() : 1) * tensor.element_size(), name};
  }

  void require(const Range& one, const Range& other) const {
    TORCH_CHECK(one.end <= other.begin || other.end <= one.begin, op_, ": ", other.name,
                " must have memory of its own, got that of ", one.name);
  }

  const char* op_;
  std::vector<Range> changed_, read_;
};

}  // namespace FSC_BACKEND
}  // namespace fsc
