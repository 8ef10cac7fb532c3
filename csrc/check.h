// Argument checks shared by every operator: each message names the operator, the argument, the rule
// and the value that broke it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <ostream>

// Device code takes more dtypes; the checks of each backend have names of their own for the linker.
#if defined(__CUDACC__) || defined(FSC_EMULATE)
#define FSC_BACKEND on_device
#else
#define FSC_BACKEND on_cpu
#endif

namespace fsc {
inline namespace FSC_BACKEND {

// Of a stride, a padding or a dilation: sizes that are made of them stay far from 2^63.
constexpr int64_t kMostPixels = 1 << 24;

// What a message calls an argument: by its name, or as one of a list where an index is given.
struct Argument {
  // Implicit, because most arguments are alone.
  Argument(const char* name) : name(name), index(-1) {}
  Argument(const char* alone, const char* list, int64_t index) : name(index < 0 ? alone : list), index(index) {}

  const char* name;
  int64_t index;
};

inline std::ostream& operator<<(std::ostream& out, const Argument& argument) {
  out << argument.name;
  if (argument.index >= 0) out << '[' << argument.index << ']';
  return out;
}

#if defined(__CUDACC__) || defined(FSC_EMULATE)
inline void check_floating(const char* op, const Argument& name, const at::Tensor& tensor) {
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16, op, ": ",
              name, " must be float32 or float64, float16 or bfloat16, got ", dtype);
}
#else
inline void check_floating(const char* op, const Argument& name, const at::Tensor& tensor) {
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble, op, ": ", name,
              " must be float32 or float64 on the CPU, got ", dtype);
}
#endif

inline void check_same_dtype(const char* op, const Argument& name, const at::Tensor& tensor, const Argument& other_name,
                             const at::Tensor& other) {
  TORCH_CHECK(tensor.scalar_type() == other.scalar_type(), op, ": ", name, " must have the dtype of ", other_name, " (",
              other.scalar_type(), "), got ", tensor.scalar_type());
}

inline void check_same_shape(const char* op, const Argument& name, const at::Tensor& tensor, const Argument& other_name,
                             const at::Tensor& other) {
  TORCH_CHECK(tensor.sizes() == other.sizes(), op, ": ", name, " must have the shape of ", other_name, " ",
              other.sizes(), ", got ", tensor.sizes());
}

inline void check_rank(const char* op, const Argument& name, const at::Tensor& tensor, int64_t rank,
                       const char* shape) {
  TORCH_CHECK(tensor.dim() == rank, op, ": ", name, " must be ", shape, ", got ", tensor.sizes());
}

// Dimensions count from the end when negative, as everywhere in PyTorch.
inline int64_t check_dim(const char* op, int64_t dim, const at::Tensor& tensor, const Argument& name = "a tensor") {
  const int64_t rank = tensor.dim();
  TORCH_CHECK(dim >= -rank && dim < rank, op, ": dim must be in [", -rank, ", ", rank - 1, "] for ", name, " of rank ",
              rank, ", got ", dim);
  return dim < 0 ? dim + rank : dim;
}

}  // namespace FSC_BACKEND
}  // namespace fsc
