// Whether tensors that an operator changes in place have memory of their own.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

// The memory from a tensor's first element to its last. Of one with gaps other tensors may lie in them.
struct Span {
  Span(const at::Tensor& tensor, const Argument& name, bool changes)
      : tensor(tensor), name(name), changes(changes), size(tensor.element_size()) {
    int64_t reach = 0;
    for (int64_t d = 0; d < tensor.dim(); ++d) reach += (tensor.size(d) - 1) * tensor.stride(d);
    begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
    end = begin + (reach + 1) * size;
  }

  bool has_gaps() const { return !tensor.is_non_overlapping_and_dense(); }

  // Calls visit(the address of an element) for all of them; stops where it returns false, and returns that.
  template <typename Visit>
  bool all_of(const Visit& visit, int64_t dim, uintptr_t at) const {
    if (dim == tensor.dim()) return visit(at);
    for (int64_t i = 0; i < tensor.size(dim); ++i) {
      if (!all_of(visit, dim + 1, at + i * tensor.stride(dim) * size)) return false;
    }
    return true;
  }

  at::Tensor tensor;
  Argument name;
  bool changes;
  int64_t size;  // of an element
  uintptr_t begin, end;
};

// Whether two elements share memory. Dimensions that each step over all of those with shorter steps share none.
inline bool overlaps_itself(const Span& span) {
  std::vector<std::pair<int64_t, int64_t>> steps;
  for (int64_t d = 0; d < span.tensor.dim(); ++d) {
    if (span.tensor.size(d) > 1) steps.emplace_back(span.tensor.stride(d), span.tensor.size(d));
  }
  std::sort(steps.begin(), steps.end());
  int64_t reach = 0;
  const bool nested = std::all_of(steps.begin(), steps.end(), [&](const auto& step) {
    const bool beyond = step.first > reach;
    reach += (step.second - 1) * step.first;
    return beyond;
  });
  if (nested) return false;
  std::vector<bool> taken((span.end - span.begin) / span.size);
  return !span.all_of(
      [&](uintptr_t at) {
        const auto place = (at - span.begin) / span.size;
        const bool was_free = !taken[place];
        taken[place] = true;
        return was_free;
      },
      0, span.begin);
}

// Whether elements of two tensors share memory; looked up byte by byte where one lies in the gaps of the other.
inline bool overlap(const Span& one, const Span& other) {
  if (one.end <= other.begin || other.end <= one.begin) return false;
  if (!one.has_gaps() && !other.has_gaps()) return true;
  std::vector<bool> taken(one.end - one.begin);
  one.all_of(
      [&](uintptr_t at) {
        std::fill_n(taken.begin() + (at - one.begin), one.size, true);
        return true;
      },
      0, one.begin);
  return !other.all_of(
      [&](uintptr_t at) {
        for (uintptr_t byte = std::max(at, one.begin); byte < std::min(at + other.size, one.end); ++byte) {
          if (taken[byte - one.begin]) return false;
        }
        return true;
      },
      0, other.begin);
}

class Apart {
 public:
  explicit Apart(const char* op) : op_(op) {}

  void changes(const at::Tensor& tensor, const Argument& name) {
    if (tensor.numel() == 0) return;
    spans_.emplace_back(tensor, name, true);
    TORCH_CHECK(!overlaps_itself(spans_.back()), op_, ": ", name,
                " must have memory for each of its elements, got strides ", tensor.strides());
  }

  void reads(const at::Tensor& tensor, const Argument& name) {
    if (tensor.numel() > 0) spans_.emplace_back(tensor, name, false);
  }

  // What is changed twice, or read elsewhere while it changes, would have no defined value.
  void check() {
    std::stable_sort(spans_.begin(), spans_.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
    for (const bool both_change : {true, false}) refuse_shared(both_change);
  }

 private:
  void refuse_shared(bool both_change) const {
    std::vector<const Span*> open;  // those that reach beyond the beginning of the one at hand
    for (const Span& span : spans_) {
      std::erase_if(open, [&](const Span* before) { return before->end <= span.begin; });
      for (const Span* before : open) {
        if (!(both_change ? span.changes && before->changes : span.changes || before->changes)) continue;
        if (!overlap(*before, span)) continue;
        const auto& [other, named] = before->changes ? std::pair(*before, span) : std::pair(span, *before);
        TORCH_CHECK(false, op_, ": ", named.name, " must have memory of its own, got that of ", other.name);
      }
      open.push_back(&span);
    }
  }

  const char* op_;
  std::vector<Span> spans_;
};

// Of the one tensor that an operator changes.
inline void check_own_memory(const char* op, const Argument& name, const at::Tensor& tensor) {
  Apart(op).changes(tensor, name);
}

}  // namespace FSC_BACKEND
}  // namespace fsc
