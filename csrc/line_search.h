// What every backend of `line_search_relu_` checks before it works.
#pragma once

#include <ATen/core/Tensor.h>

#include "apart.h"
#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_line_search(const char* op, const at::Tensor& output, const at::Tensor& direction,
                              const at::Tensor& target) {
  check_floating(op, "output", output);
  check_rank(op, "output", output, 2, "[C_out, R]");
  TORCH_CHECK(output.is_contiguous(), op, ": output must be contiguous, got strides ", output.strides());
  check_same_dtype(op, "direction", direction, "output", output);
  check_same_shape(op, "direction", direction, "output", output);
  check_same_dtype(op, "target", target, "output", output);
  check_same_shape(op, "target", target, "output", output);
  Apart apart(op);
  apart.changes(output, "output");
  apart.reads(direction, "direction");
  apart.reads(target, "target");
  apart.check();
}

}  // namespace FSC_BACKEND
}  // namespace fsc
