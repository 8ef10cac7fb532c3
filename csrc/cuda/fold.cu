// Folding on CUDA devices: BatchNorm into the convolution before it.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>

#include "check.h"
#include "cuda/dispatch.cuh"
#include "cuda/fold_kernels.cuh"
#include "cuda/launch.cuh"

namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Layer = std::tuple<at::Tensor, at::Tensor>;  // weight and bias

OptionalTensor contiguous(const OptionalTensor& tensor) {
  return tensor.has_value() ? OptionalTensor(tensor->contiguous()) : std::nullopt;
}

template <typename scalar_t>
const scalar_t* pointer(const OptionalTensor& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<scalar_t>() : nullptr;
}

// ---- BatchNorm ----

void check_channels(const char* name, const at::Tensor& vector, const at::Tensor& weight) {
  fsc::check_same_dtype("fuse_conv_bn", name, vector, "weight", weight);
  TORCH_CHECK(vector.dim() == 1 && vector.size(0) == weight.size(0), "fuse_conv_bn: ", name,
              " must be [C_out] with C_out = ", weight.size(0), ", got ", vector.sizes());
}

template <typename scalar_t>
void launch_fuse(const fsc::Fuse<scalar_t>& layer) {
  constexpr int width = fsc::kVectorWidth<scalar_t>;
  const fsc::Grid grid{std::min(layer.channels, fsc::kMostBlocks), fsc::device::kFuseThreads};
  if (layer.inner % width == 0 && fsc::aligned(layer.weight, layer.fused_weight)) {
    fsc::launch<false>(grid, fsc::device::fuse_conv_bn_kernel<scalar_t, width>, layer);
  } else {
    fsc::launch<false>(grid, fsc::device::fuse_conv_bn_kernel<scalar_t, 1>, layer);
  }
}

// Unlike the CPU's, it cannot refuse a running_var + eps that is not positive, which would mean to wait for the
// device: that channel becomes NaN.
Layer fuse_conv_bn_cuda(const at::Tensor& weight, const OptionalTensor& bias, const at::Tensor& running_mean,
                        const at::Tensor& running_var, const OptionalTensor& bn_weight, const OptionalTensor& bn_bias,
                        double eps) {
  fsc::check_floating("fuse_conv_bn", "weight", weight);
  TORCH_CHECK(weight.dim() >= 2, "fuse_conv_bn: weight must be [C_out, C_in, ...], got ", weight.sizes());
  check_channels("running_mean", running_mean, weight);
  check_channels("running_var", running_var, weight);
  if (bias.has_value()) check_channels("bias", *bias, weight);
  if (bn_weight.has_value()) check_channels("bn_weight", *bn_weight, weight);
  if (bn_bias.has_value()) check_channels("bn_bias", *bn_bias, weight);
  TORCH_CHECK(std::isfinite(eps) && eps >= 0, "fuse_conv_bn: eps must be finite and at least 0, got ", eps);

  const fsc::OnDeviceOf device(weight);
  // In both formats the elements of one output channel lie together.
  const bool channels_last = !weight.is_contiguous() && weight.is_contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor dense = channels_last ? weight : weight.contiguous();
  const at::Tensor mean = running_mean.contiguous(), variance = running_var.contiguous();
  const OptionalTensor offset = contiguous(bias), gain = contiguous(bn_weight), shift = contiguous(bn_bias);
  at::Tensor fused_weight = at::empty_like(dense), fused_bias = at::empty_like(mean);
  const int64_t channels = weight.size(0), inner = channels == 0 ? 0 : weight.numel() / channels;
  FSC_DISPATCH(weight.scalar_type(), "fuse_conv_bn", [&] {
    launch_fuse<scalar_t>({dense.const_data_ptr<scalar_t>(), pointer<scalar_t>(offset), mean.const_data_ptr<scalar_t>(),
                           variance.const_data_ptr<scalar_t>(), pointer<scalar_t>(gain), pointer<scalar_t>(shift),
                           fused_weight.data_ptr<scalar_t>(), fused_bias.data_ptr<scalar_t>(), channels, inner, eps});
  });
  return {fused_weight, fused_bias};
}

}  // namespace

// absorb_conv1x1 is a matrix product that ATen differentiates on every device; see cpu/fold.cpp.
FSC_CUDA_OPERATORS(m) { m.impl("fuse_conv_bn", fuse_conv_bn_cuda); }
