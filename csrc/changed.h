// Tensors that an operator changes in place, whatever their layout.
#pragma once

#include <ATen/core/Tensor.h>

#include "version_counter.h"

namespace fsc {

// A tensor that a step changes: worked on in contiguous memory, then written back. `as_it_is`: worked on in the memory
// that it has, whatever the order of the elements there.
class Changed {
 public:
  Changed() = default;
  explicit Changed(const at::Tensor& tensor, bool as_it_is = false)
      : tensor_(tensor), work_(as_it_is ? tensor : tensor.contiguous()) {}

  template <typename scalar_t>
  scalar_t* data() const {
    return work_.defined() ? work_.data_ptr<scalar_t>() : nullptr;
  }

  void finish() const {
    if (!tensor_.defined()) return;
    if (!work_.is_same(tensor_)) tensor_.copy_(work_);
    fsc::mark_changed(tensor_);
  }

 private:
  at::Tensor tensor_;
  at::Tensor work_;
};

}  // namespace fsc
