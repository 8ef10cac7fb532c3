// Folding on CUDA devices: BatchNorm or a 1x1 convolution into the convolution before it, all layers of a list in one
// launch.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "cuda/dispatch.cuh"
#include "cuda/fold_absorb_kernels.cuh"
#include "cuda/fold_kernels.cuh"
#include "cuda/table_launch.cuh"
#include "fold.h"

namespace {

using fsc::OptionalTensor;

OptionalTensor contiguous(const OptionalTensor& tensor) {
  return tensor.has_value() ? OptionalTensor(tensor->contiguous()) : std::nullopt;
}

// A layer in dense memory, which has to live until its kernel is launched.
fsc::FuseLayer dense(const fsc::FuseLayer& layer) {
  return {layer.op,
          fsc::by_channels(layer.weight),
          contiguous(layer.bias),
          layer.running_mean.contiguous(),
          layer.running_var.contiguous(),
          contiguous(layer.bn_weight),
          contiguous(layer.bn_bias),
          layer.eps};
}

template <typename scalar_t>
fsc::Fuse<scalar_t> row_of(const fsc::FuseLayer& layer, const at::Tensor& weight, const at::Tensor& bias) {
  const auto* source = layer.weight.const_data_ptr<scalar_t>();
  auto* destination = weight.data_ptr<scalar_t>();
  const int64_t channels = weight.size(0), inner = channels == 0 ? 0 : weight.numel() / channels;
  return {source,
          fsc::pointer<scalar_t>(layer.bias),
          layer.running_mean.const_data_ptr<scalar_t>(),
          layer.running_var.const_data_ptr<scalar_t>(),
          fsc::pointer<scalar_t>(layer.bn_weight),
          fsc::pointer<scalar_t>(layer.bn_bias),
          destination,
          bias.data_ptr<scalar_t>(),
          channels,
          inner,
          layer.eps,
          inner % fsc::kVectorWidth<scalar_t> == 0 && fsc::aligned(source, destination)};
}

template <int capacity, typename scalar_t>
void launch_fuse(c10::ArrayRef<fsc::Fuse<scalar_t>> rows) {
  const auto blocks_of = [](const fsc::Fuse<scalar_t>& row) { return std::min(row.channels, fsc::kMostBlocks); };
  const auto kernel = fsc::device::fuse_conv_bn_kernel<scalar_t, capacity>;
  fsc::launch_tables<capacity>(rows, blocks_of,
                               [&](const fsc::device::FuseTable<scalar_t, capacity>& table, int64_t blocks) {
                                 fsc::launch<false>({blocks, fsc::device::kFuseThreads}, kernel, table);
                               });
}

// ---- 1x1 convolution ----

fsc::AbsorbLayer dense(const fsc::AbsorbLayer& layer) {
  return {layer.op, fsc::by_channels(layer.weight), contiguous(layer.bias), layer.pointwise_weight.contiguous(),
          contiguous(layer.pointwise_bias)};
}

int32_t size_of(int64_t size) {
  TORCH_CHECK(size < std::numeric_limits<int32_t>::max() / 2,
              "absorb_conv1x1: a side of a matrix must be below 2^30, got ", size);
  return static_cast<int32_t>(size);
}

template <typename scalar_t>
fsc::Absorb<scalar_t> row_of(const fsc::AbsorbLayer& layer, const at::Tensor& weight, const at::Tensor& bias) {
  constexpr int width = fsc::kVectorWidth<scalar_t>;
  const auto* source = layer.weight.const_data_ptr<scalar_t>();
  const auto* matrix = layer.pointwise_weight.const_data_ptr<scalar_t>();
  const int32_t channels = size_of(layer.weight.size(0)), inner = size_of(fsc::inner_size(layer.weight));
  return {source,
          fsc::pointer<scalar_t>(layer.bias),
          matrix,
          fsc::pointer<scalar_t>(layer.pointwise_bias),
          weight.data_ptr<scalar_t>(),
          bias.data_ptr<scalar_t>(),
          size_of(bias.size(0)),
          channels,
          inner,
          inner % width == 0 && fsc::aligned(source),
          channels % width == 0 && fsc::aligned(matrix)};
}

template <int capacity, typename scalar_t>
void launch_absorb(c10::ArrayRef<fsc::Absorb<scalar_t>> rows) {
  using Memory = fsc::device::AbsorbMemory<fsc::device::wide_t<scalar_t>>;
  const auto blocks_of = [](const fsc::Absorb<scalar_t>& row) {
    const auto tiles = [](int64_t size) { return fsc::ceil_div(size, fsc::device::kTile); };
    return std::min(tiles(row.rows) * std::max<int64_t>(tiles(row.inner), 1), fsc::kMostBlocks);
  };
  const auto kernel = fsc::device::absorb_kernel<scalar_t, capacity>;
  fsc::launch_tables<capacity>(rows, blocks_of,
                               [&](const fsc::device::AbsorbTable<scalar_t, capacity>& table, int64_t blocks) {
                                 fsc::launch<true>({blocks, fsc::device::kTileThreads, sizeof(Memory)}, kernel, table);
                               });
}

}  // namespace

// Unlike the CPU's, it cannot refuse a running_var + eps that is not positive, which would mean to wait for the
// device: that channel becomes NaN.
fsc::FoldedLists fsc::fold_layers(at::ArrayRef<FuseLayer> layers) {
  FoldedLists folded;
  if (layers.empty()) return folded;
  auto& [weights, biases] = folded;
  const OnDeviceOf device(layers[0].weight);
  std::vector<FuseLayer> sources;
  for (const FuseLayer& layer : layers) {
    sources.push_back(dense(layer));
    weights.push_back(at::empty_like(sources.back().weight));
    biases.push_back(at::empty_like(sources.back().running_mean));
  }
  FSC_DISPATCH(layers[0].weight.scalar_type(), "fuse_conv_bn", [&] {
    std::vector<Fuse<scalar_t>> rows;
    for (size_t i = 0; i < sources.size(); ++i) rows.push_back(row_of<scalar_t>(sources[i], weights[i], biases[i]));
    // A lone layer travels in a small table.
    rows.size() == 1 ? launch_fuse<1, scalar_t>(rows) : launch_fuse<device::kManyLayers, scalar_t>(rows);
  });
  return folded;
}

fsc::FoldedLists fsc::absorb_layers(at::ArrayRef<AbsorbLayer> layers) {
  FoldedLists folded;
  if (layers.empty()) return folded;
  auto& [weights, biases] = folded;
  const OnDeviceOf device(layers[0].weight);
  std::vector<AbsorbLayer> sources;
  for (const AbsorbLayer& layer : layers) {
    sources.push_back(dense(layer));
    const int64_t channels = layer.pointwise_weight.size(0);
    weights.push_back(empty_with_channels(sources.back().weight, channels));
    biases.push_back(at::empty({channels}, layer.weight.options()));
  }
  FSC_DISPATCH(layers[0].weight.scalar_type(), "absorb_conv1x1", [&] {
    std::vector<Absorb<scalar_t>> rows;
    for (size_t i = 0; i < sources.size(); ++i) rows.push_back(row_of<scalar_t>(sources[i], weights[i], biases[i]));
    rows.size() == 1 ? launch_absorb<1, scalar_t>(rows) : launch_absorb<device::kManyAbsorbed, scalar_t>(rows);
  });
  return folded;
}

FSC_CUDA_OPERATORS(m) {
  m.impl("fuse_conv_bn", fsc::fuse_conv_bn);
  m.impl("foreach_fuse_conv_bn", fsc::foreach_fuse_conv_bn);
  m.impl("absorb_conv1x1", fsc::absorb_conv1x1);
  m.impl("foreach_absorb_conv1x1", fsc::foreach_absorb_conv1x1);
}
