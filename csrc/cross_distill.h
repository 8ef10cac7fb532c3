// What every backend of the cross distillation operators checks before it works.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "check.h"

namespace fsc {
inline namespace FSC_BACKEND {

inline void check_share(const char* op, const char* name, double share) {
  TORCH_CHECK(share >= 0 && share <= 1, op, ": ", name, " must be in [0, 1], got ", share);
}

// Returns whether the activation is ReLU.
inline bool check_activation(const char* op, std::string_view activation) {
  TORCH_CHECK(activation == "relu" || activation == "none", op, ": activation must be 'relu' or 'none', got '",
              activation, "'");
  return activation == "relu";
}

inline void check_pairable(const char* op, const char* name, const at::Tensor& tensor, const char* other_name,
                           const at::Tensor& other) {
  check_floating(op, other_name, other);
  check_same_dtype(op, name, tensor, other_name, other);
  check_same_shape(op, name, tensor, other_name, other);
}

// How the layer's two convolutions step over their inputs.
struct ConvGeometry {
  at::IntArrayRef stride;
  at::IntArrayRef padding;
  at::IntArrayRef dilation;
  int64_t groups;

  // The dilation that convolves: a kernel of one pixel has no gaps. Told of some, oneDNN reads beyond images that are
  // channels last.
  std::array<int64_t, 2> gaps(const at::Tensor& weight) const {
    return {weight.size(2) > 1 ? dilation[0] : 1, weight.size(3) > 1 ? dilation[1] : 1};
  }
};

inline void check_pair(const char* op, const char* name, at::IntArrayRef pair, int64_t least) {
  TORCH_CHECK(pair.size() == 2, op, ": ", name, " must be an int or a pair of ints, got ", pair);
  TORCH_CHECK(pair[0] >= least && pair[1] >= least, op, ": ", name, " must be at least ", least, ", got ", pair);
  TORCH_CHECK(pair[0] <= kMostPixels && pair[1] <= kMostPixels, op, ": ", name, " must be at most ", kMostPixels,
              ", got ", pair);
}

inline void check_geometry(const char* op, const ConvGeometry& conv, const at::Tensor& x) {
  check_pair(op, "stride", conv.stride, 1);
  check_pair(op, "padding", conv.padding, 0);
  check_pair(op, "dilation", conv.dilation, 1);
  TORCH_CHECK(conv.groups >= 1 && x.size(1) % conv.groups == 0, op, ": groups must divide the ", x.size(1),
              " channels of input_student, got ", conv.groups);
}

// Checks the weight and bias of one side, "_teacher", "_student" or "", against its input; returns the shape of
// its output.
inline std::array<int64_t, 4> check_side(const char* op, const std::string& side, const ConvGeometry& conv,
                                         const at::Tensor& x, const at::Tensor& weight,
                                         const std::optional<at::Tensor>& bias) {
  const std::string name = "weight" + side;
  check_same_dtype(op, name.c_str(), weight, "input_student", x);
  check_rank(op, name.c_str(), weight, 4, "[C_out, C_in / groups, kH, kW]");
  TORCH_CHECK(weight.numel() > 0, op, ": ", name, " must hold at least one value, got ", weight.sizes());
  TORCH_CHECK(weight.size(1) == x.size(1) / conv.groups, op, ": ", name, " must have C_in / groups = ", x.size(1),
              " / ", conv.groups, " input channels, got ", weight.sizes());
  TORCH_CHECK(weight.size(0) % conv.groups == 0, op, ": groups must divide the ", weight.size(0),
              " output channels of ", name, ", got ", conv.groups);
  if (bias) {
    const std::string bias_name = "bias" + side;
    check_same_dtype(op, bias_name.c_str(), *bias, name.c_str(), weight);
    TORCH_CHECK(bias->dim() == 1 && bias->size(0) == weight.size(0), op, ": ", bias_name, " must be [", weight.size(0),
                "], got ", bias->sizes());
  }
  std::array<int64_t, 4> shape{x.size(0), weight.size(0), 0, 0};
  for (int64_t d = 0; d < 2; ++d) {
    const int64_t reach = conv.dilation[d] * (weight.size(d + 2) - 1) + 1;
    const int64_t room = x.size(d + 2) + 2 * conv.padding[d];
    TORCH_CHECK(weight.size(d + 2) >= 1 && reach <= room, op, ": ", name,
                " must have a kernel that fits into the padded input ", x.sizes(), ", got ", weight.sizes());
    shape[d + 2] = (room - reach) / conv.stride[d] + 1;
  }
  return shape;
}

}  // namespace FSC_BACKEND
}  // namespace fsc
