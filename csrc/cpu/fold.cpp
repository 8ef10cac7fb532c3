// Folding on the CPU: BatchNorm into the convolution before it, layers of a list one after another; a 1x1 convolution
// into the one before it.
#include "fold.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmv.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/clones.h"

namespace {

using fsc::Folded;
using fsc::OptionalTensor;

constexpr int64_t kGrain = 1 << 15;

// ---- BatchNorm ----

std::vector<double> as_double(const OptionalTensor& vector, int64_t channels, double absent) {
  std::vector<double> values(channels, absent);
  if (vector.has_value()) {
    const at::Tensor wide = vector->to(at::kDouble).contiguous();
    std::copy_n(wide.const_data_ptr<double>(), channels, values.begin());
  }
  return values;
}

template <typename scalar_t>
FSC_CLONES void scale_channel(const scalar_t* source, double scale, scalar_t* destination, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    destination[i] = static_cast<scalar_t>(static_cast<double>(source[i]) * scale);
  }
}

template <typename scalar_t>
void scale_channels(const at::Tensor& weight, const std::vector<double>& scale, const at::Tensor& output) {
  const int64_t channels = weight.size(0);
  const int64_t inner = channels == 0 ? 0 : weight.numel() / channels;
  const scalar_t* source = weight.const_data_ptr<scalar_t>();  // [C_out, inner] in memory
  scalar_t* destination = output.data_ptr<scalar_t>();
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, inner));
  at::parallel_for(0, channels, grain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) scale_channel(source + c * inner, scale[c], destination + c * inner, inner);
  });
}

// gamma / sqrt(variance + eps) of every channel.
std::vector<double> scales(const fsc::FuseLayer& layer) {
  const int64_t channels = layer.weight.size(0);
  const std::vector<double> variance = as_double(layer.running_var, channels, 1.0);
  std::vector<double> scale = as_double(layer.bn_weight, channels, 1.0);
  for (int64_t c = 0; c < channels; ++c) {
    const double spread = variance[c] + layer.eps;
    TORCH_CHECK(spread > 0, layer.op, ": ", layer.named("running_var", "running_vars"), " + eps must be positive, got ",
                spread, " in channel ", c);
    scale[c] /= std::sqrt(spread);
  }
  return scale;
}

Folded fold(const fsc::FuseLayer& layer) {
  const int64_t channels = layer.weight.size(0);
  const std::vector<double> scale = scales(layer);
  const std::vector<double> mean = as_double(layer.running_mean, channels, 0.0);
  const std::vector<double> shift = as_double(layer.bn_bias, channels, 0.0);
  const std::vector<double> offset = as_double(layer.bias, channels, 0.0);
  const at::Tensor dense = fsc::by_channels(layer.weight);
  at::Tensor fused_weight = at::empty_like(dense);
  at::Tensor fused_bias = at::empty_like(layer.running_mean, at::MemoryFormat::Contiguous);
  AT_DISPATCH_FLOATING_TYPES(dense.scalar_type(), "fuse_conv_bn", [&] {
    scale_channels<scalar_t>(dense, scale, fused_weight);
    scalar_t* destination = fused_bias.data_ptr<scalar_t>();
    for (int64_t c = 0; c < channels; ++c) {
      destination[c] = static_cast<scalar_t>((offset[c] - mean[c]) * scale[c] + shift[c]);
    }
  });
  return {fused_weight, fused_bias};
}

// ---- 1x1 convolution ----

// Sizes may be symbolic here: this function is traced, not only run.
void check_absorb(const at::Tensor& weight, const OptionalTensor& bias, const at::Tensor& pointwise_weight,
                  const OptionalTensor& pointwise_bias) {
  constexpr const char* op = "absorb_conv1x1";
  if (weight.is_cpu()) fsc::check_floating(op, "weight", weight);
  TORCH_CHECK(weight.dim() >= 2, op, ": weight must be [C_out, C_in, ...], got ", weight.sym_sizes());
  const auto channels = weight.sym_size(0);
  const auto rank = pointwise_weight.dim();
  const bool pointwise =
      rank == 2 || (rank == 4 && pointwise_weight.sym_size(2) == 1 && pointwise_weight.sym_size(3) == 1);
  TORCH_CHECK(pointwise && pointwise_weight.sym_size(1) == channels, op,
              ": pointwise_weight must be [C_new, C_out] or [C_new, C_out, 1, 1] with C_out = ", channels, ", got ",
              pointwise_weight.sym_sizes());
  fsc::check_same_dtype(op, "pointwise_weight", pointwise_weight, "weight", weight);
  if (bias.has_value()) {
    fsc::check_same_dtype(op, "bias", *bias, "weight", weight);
    TORCH_CHECK(bias->dim() == 1 && bias->sym_size(0) == channels, op, ": bias must be [C_out] with C_out = ", channels,
                ", got ", bias->sym_sizes());
  }
  if (pointwise_bias.has_value()) {
    fsc::check_same_dtype(op, "pointwise_bias", *pointwise_bias, "weight", weight);
    TORCH_CHECK(pointwise_bias->dim() == 1 && pointwise_bias->sym_size(0) == pointwise_weight.sym_size(0), op,
                ": pointwise_bias must be [C_new] with C_new = ", pointwise_weight.sym_size(0), ", got ",
                pointwise_bias->sym_sizes());
  }
}

at::Tensor absorb_bias(const OptionalTensor& bias, const at::Tensor& matrix, const OptionalTensor& pointwise_bias) {
  if (bias.has_value() && pointwise_bias.has_value()) return at::addmv(*pointwise_bias, matrix, *bias);
  if (bias.has_value()) return at::mv(matrix, *bias);
  if (pointwise_bias.has_value()) return pointwise_bias->clone();
  return at::zeros_symint({matrix.sym_size(0)}, matrix.options());
}

// Made of differentiable ATen calls only, so that gradients, tracing and every device come with it.
Folded absorb_conv1x1(const at::Tensor& weight, const OptionalTensor& bias, const at::Tensor& pointwise_weight,
                      const OptionalTensor& pointwise_bias) {
  check_absorb(weight, bias, pointwise_weight, pointwise_bias);
  // Autocast knows only some of the products below: weight and bias would differ in dtype.
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor matrix = pointwise_weight.flatten(1);  // [C_new, C_out]
  std::vector<c10::SymInt> sizes = weight.sym_sizes().vec();
  sizes[0] = matrix.sym_size(0);
  return {at::mm(matrix, weight.flatten(1)).view_symint(sizes), absorb_bias(bias, matrix, pointwise_bias)};
}

}  // namespace

fsc::FoldedLists fsc::fold_layers(at::ArrayRef<FuseLayer> layers) {
  FoldedLists folded;
  for (const FuseLayer& layer : layers) {
    auto [weight, bias] = fold(layer);
    std::get<0>(folded).push_back(std::move(weight));
    std::get<1>(folded).push_back(std::move(bias));
  }
  return folded;
}

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("fuse_conv_bn", fsc::fuse_conv_bn);
  m.impl("foreach_fuse_conv_bn", fsc::foreach_fuse_conv_bn);
}

TORCH_LIBRARY_IMPL(fsc_ext, CompositeImplicitAutograd, m) { m.impl("absorb_conv1x1", absorb_conv1x1); }
