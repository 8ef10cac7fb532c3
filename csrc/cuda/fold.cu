// Folding on CUDA devices: BatchNorm into the convolution before it.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>

#include "cuda/dispatch.cuh"
#include "cuda/fold_kernels.cuh"
#include "cuda/launch.cuh"
#include "fold.h"

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
  fsc::check_fuse(weight, bias, running_mean, running_var, bn_weight, bn_bias, eps);

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
