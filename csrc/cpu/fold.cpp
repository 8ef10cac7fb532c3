// Folding on the CPU: BatchNorm or a 1x1 convolution into the convolution before it, layers of a list one after
// another.
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

at::Tensor absorb_bias(const OptionalTensor& bias, const at::Tensor& matrix, const OptionalTensor& pointwise_bias) {
  if (bias.has_value() && pointwise_bias.has_value()) return at::addmv(*pointwise_bias, matrix, *bias);
  if (bias.has_value()) return at::mv(matrix, *bias);
  if (pointwise_bias.has_value()) return pointwise_bias->clone(at::MemoryFormat::Contiguous);
  return at::zeros({matrix.size(0)}, matrix.options());
}

// The product as PyTorch multiplies matrices on the CPU.
Folded absorb(const fsc::AbsorbLayer& layer) {
  const at::Tensor matrix = layer.pointwise_weight.flatten(1);  // [C_new, C_out]
  const at::Tensor dense = fsc::by_channels(layer.weight);
  const int64_t inner = fsc::inner_size(dense);
  const auto rows = [inner](const at::Tensor& weight) {
    return weight.as_strided({weight.size(0), inner}, {inner, 1});
  };
  const at::Tensor absorbed = fsc::empty_with_channels(dense, matrix.size(0));
  at::Tensor product = rows(absorbed);
  at::mm_out(product, matrix, rows(dense));
  return {absorbed, absorb_bias(layer.bias, matrix, layer.pointwise_bias)};
}

// One after another.
template <typename Layer, typename One>
fsc::FoldedLists all_of(at::ArrayRef<Layer> layers, const One& one) {
  fsc::FoldedLists folded;
  for (const Layer& layer : layers) {
    auto [weight, bias] = one(layer);
    std::get<0>(folded).push_back(std::move(weight));
    std::get<1>(folded).push_back(std::move(bias));
  }
  return folded;
}

}  // namespace

fsc::FoldedLists fsc::fold_layers(at::ArrayRef<FuseLayer> layers) { return all_of(layers, fold); }

fsc::FoldedLists fsc::absorb_layers(at::ArrayRef<AbsorbLayer> layers) {
  // Autocast knows only some of the products: weight and bias would differ in dtype.
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  return all_of(layers, absorb);
}

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) {
  m.impl("fuse_conv_bn", fsc::fuse_conv_bn);
  m.impl("foreach_fuse_conv_bn", fsc::foreach_fuse_conv_bn);
  m.impl("absorb_conv1x1", fsc::absorb_conv1x1);
  m.impl("foreach_absorb_conv1x1", fsc::foreach_absorb_conv1x1);
}
