// Where a layer of cross distillation is worth the fused kernels.
#pragma once

#include "cross_distill_operators.h"
#include "cuda/convolution_plan.cuh"

namespace fsc {

// Multiply-adds up to which a layer is taken to be bound by launches and memory, so that fusing pays; a paper
// estimate that no GPU has confirmed yet.
constexpr int64_t kMostFusedWork = int64_t{1} << 29;

// `shape`: of the layer's output.
inline bool fuses(const Layer& layer, at::IntArrayRef shape) {
  const int64_t pixels = shape[0] * shape[2] * shape[3], weights = layer.weight_student.numel();
  const int64_t bytes = layer.input_student.element_size();
  return layer.conv.groups == 1 && layer.weight_teacher.sizes() == layer.weight_student.sizes() &&
         weights * pixels <= kMostFusedWork && pixels > 0 && weights > 0 &&
         fits_kernels(layer.conv, shape[0], bytes * dense_reach(layer.input_student.sizes(), layer.conv.padding),
                      bytes * dense_reach(shape, {0, 0}), weights);
}

}  // namespace fsc
