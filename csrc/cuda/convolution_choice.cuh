// Where a layer of cross distillation is worth the fused kernels; measured, docs/gpu.md.
#pragma once

#include <ATen/Context.h>

#include "cross_distill_operators.h"
#include "cuda/convolution_plan.cuh"

namespace fsc {

// Multiply-adds of a convolution up to which launches and passes over memory weigh more than products: beside cuDNN
// where it may round float32 to TF32, and in other types than float32.
constexpr int64_t kMostWorkBesideTf32 = int64_t{1} << 27;
constexpr int64_t kMostWork = int64_t{1} << 29;
// Filters up to which the gradient of a weight takes less time than cuDNN's in full float32, however many images.
constexpr int64_t kNarrowLayer = 64;

// Whether the kernels can take a layer whose output is of `shape`.
inline bool kernels_take(const Layer& layer, at::IntArrayRef shape) {
  const int64_t weights = layer.weight_student.numel(), bytes = layer.input_student.element_size();
  return layer.conv.groups == 1 && layer.weight_teacher.sizes() == layer.weight_student.sizes() &&
         c10::multiply_integers(shape) > 0 && weights > 0 &&
         fits_kernels(layer.conv, shape[0], bytes * dense_reach(layer.input_student.sizes(), layer.conv.padding),
                      bytes * dense_reach(shape, {0, 0}), weights);
}

// Multiply-adds up to which the kernels are taken for cuDNN, none for any number of them.
inline std::optional<int64_t> most_work(const Layer& layer) {
  if (layer.input_student.scalar_type() != at::kFloat) return kMostWork;
  if (at::globalContext().allowTF32CuDNN(at::Float32Op::CONV)) return kMostWorkBesideTf32;
  return {};
}

inline int64_t work_of(const Layer& layer, at::IntArrayRef shape) {
  return layer.weight_student.numel() * shape[0] * shape[2] * shape[3];
}

inline bool fuses(const Layer& layer, at::IntArrayRef shape) {
  return kernels_take(layer, shape) && work_of(layer, shape) <= most_work(layer).value_or(work_of(layer, shape));
}

inline bool fuses_gradient(const Layer& layer, at::IntArrayRef shape) {
  const bool narrow = !most_work(layer) && shape[1] <= kNarrowLayer;
  return kernels_take(layer, shape) && (narrow || work_of(layer, shape) <= most_work(layer).value_or(kMostWork));
}

}  // namespace fsc
