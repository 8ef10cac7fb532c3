// Images in float32 from one memory format to the other, and their channels' norms: several times faster than the
// strided copies and reductions of ATen.
#pragma once

#include <ATen/core/Tensor.h>

namespace fsc {

// As tensor.contiguous(at::MemoryFormat::ChannelsLast).
at::Tensor channels_last(const at::Tensor& images);

// As tensor.contiguous().
at::Tensor channels_first(const at::Tensor& images);

// The Euclidean norm of every channel, [C], of images [N, C, H, W] that are channels last.
at::Tensor channel_norms(const at::Tensor& images);

}  // namespace fsc
