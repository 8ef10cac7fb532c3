// Weights on a few evenly spaced values, and the proximal operator that pulls towards them, on CUDA devices.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cuda/dispatch.cuh"
#include "cuda/launch.cuh"
#include "cuda/quantize_kernels.cuh"
#include "quantize.h"

namespace {

using fsc::Cut;
using fsc::Part;

// Parts of a row that are worth a block of their own, and so many that a block still sums over them quickly.
constexpr int64_t kPartLength = 1 << 13;
constexpr int64_t kMostParts = 1 << 10;

// `width` divides the length of a part, so that every part starts on a whole vector where the rows do.
Cut cut_of(int64_t rows, int64_t count, int64_t width) {
  const int64_t wanted = std::min(fsc::ceil_div(count, kPartLength), kMostParts);
  const int64_t length = fsc::ceil_div(fsc::ceil_div(count, wanted), width) * width;
  return {rows, count, fsc::ceil_div(count, length), length};
}

template <typename scalar_t, int width>
void launch_quantize(const at::Tensor& input, const at::Tensor& output, const Cut& cut, int64_t levels, double share) {
  constexpr int64_t scratch = fsc::device::kQuantizeThreads / fsc::device::kWarp * sizeof(double);
  constexpr int64_t fields = sizeof(Part) / sizeof(double);
  const at::Tensor known = at::empty({cut.rows * cut.parts, fields}, input.options().dtype(at::kDouble));
  auto* parts = reinterpret_cast<Part*>(known.data_ptr<double>());
  const scalar_t* source = input.const_data_ptr<scalar_t>();
  const fsc::Grid grid{std::min(cut.rows * cut.parts, fsc::kMostBlocks), fsc::device::kQuantizeThreads, scratch};
  fsc::launch<true>(grid, fsc::device::summarise_kernel<scalar_t, width>, source, parts, cut);
  fsc::launch<true>(grid, fsc::device::squares_kernel<scalar_t, width>, source, parts, cut);
  fsc::launch<true>(grid, fsc::device::round_kernel<scalar_t, width>, source, output.data_ptr<scalar_t>(), parts, cut,
                    levels, share);
}

// The input [rows, count] is contiguous and has elements.
template <typename scalar_t>
void quantize_rows(const at::Tensor& input, const at::Tensor& output, int64_t rows, int64_t levels, double share) {
  constexpr int width = fsc::kVectorWidth<scalar_t>;
  const int64_t count = input.numel() / rows;
  const bool whole = rows == 1 || count % width == 0;
  if (whole && fsc::aligned(input.const_data_ptr<scalar_t>(), output.const_data_ptr<scalar_t>())) {
    launch_quantize<scalar_t, width>(input, output, cut_of(rows, count, width), levels, share);
  } else {
    launch_quantize<scalar_t, 1>(input, output, cut_of(rows, count, 1), levels, share);
  }
}

at::Tensor quantize(const char* op, const at::Tensor& weight, int64_t bits, bool per_channel, double share) {
  fsc::check_quantize(op, weight, bits, per_channel);
  const fsc::OnDeviceOf device(weight);
  const at::Tensor input = weight.contiguous();
  at::Tensor output = at::empty_like(input);
  if (input.numel() == 0) return output;
  const int64_t rows = per_channel ? input.size(0) : 1;
  FSC_DISPATCH(input.scalar_type(), "quantize",
               [&] { quantize_rows<scalar_t>(input, output, rows, (int64_t{1} << bits) - 1, share); });
  return output;
}

at::Tensor quantize_weight_cuda(const at::Tensor& weight, int64_t bits, bool per_channel) {
  return quantize("quantize_weight", weight, bits, per_channel, 1);
}

at::Tensor prox_quantize_cuda(const at::Tensor& weight, int64_t bits, double strength, bool per_channel) {
  fsc::check_strength(strength);
  return quantize("prox_quantize", weight, bits, per_channel, strength / (1 + strength));
}

}  // namespace

FSC_CUDA_OPERATORS(m) {
  m.impl("quantize_weight", quantize_weight_cuda);
  m.impl("prox_quantize", prox_quantize_cuda);
}
