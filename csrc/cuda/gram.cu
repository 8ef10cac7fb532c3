// Gram matrices of im2col columns on CUDA devices.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "cuda/dispatch.cuh"
#include "cuda/gram_kernels.cuh"
#include "cuda/launch.cuh"
#include "gram.h"

namespace {

using fsc::ceil_div;
using fsc::Grams;
using fsc::GramSide;
using fsc::OptionalTensor;
using fsc::device::kGramTile;
using fsc::device::Panels;
using fsc::device::Tiles;

// Two blocks for each multiprocessor of a large GPU: a number that no GPU changes, so that none changes a bit.
constexpr int64_t kEnoughBlocks = 264;
// Columns whose products are summed in float32, before the sums are float64.
constexpr int64_t kNarrowest = 256;
constexpr int64_t kWidest = 1024;

int64_t count_of(const Tiles& tiles) {
  const int64_t down = ceil_div(tiles.rows, kGramTile), across = ceil_div(tiles.columns, kGramTile);
  return tiles.symmetric ? down * (down + 1) / 2 : down * across;
}

// Panels as wide as leaves enough of them for every block.
Panels panels_of(const GramSide& side, int64_t num_tiles) {
  const int64_t images = side.images(), pixels = side.pixels();
  const int64_t wanted = ceil_div(images * pixels * num_tiles, kEnoughBlocks);
  const int64_t width = std::clamp(ceil_div(wanted, kNarrowest) * kNarrowest, kNarrowest, kWidest);
  return {images,
          pixels,
          side.window.width.outputs(side.input.size(3)),
          width,
          ceil_div(pixels, width),
          std::max<int64_t>(1, width / pixels)};
}

int64_t count_of(const Panels& panels) {
  return ceil_div(panels.images, panels.images_a_panel) * panels.panels_an_image;
}

template <typename scalar_t>
fsc::device::Features<scalar_t> features_of(const GramSide& side) {
  const at::Tensor& input = side.input;
  return {input.const_data_ptr<scalar_t>(),
          {input.stride(0), input.stride(1), input.stride(2), input.stride(3)},
          input.size(2),
          input.size(3),
          side.features(),
          side.ones,
          side.window};
}

// gram += U_left U_right^T, for sides with the same images and pixels.
void add_product(const at::Tensor& gram, const GramSide& left, const GramSide& right, bool symmetric) {
  const Tiles tiles{left.rows(), right.rows(), symmetric};
  const int64_t num_tiles = count_of(tiles);
  if (left.images() * left.pixels() == 0 || num_tiles == 0) return;
  const Panels panels = panels_of(left, num_tiles);
  const int64_t num_panels = count_of(panels);
  const int64_t splits = std::min(num_panels, ceil_div(kEnoughBlocks, num_tiles));

  const auto options = left.input.options().dtype(at::kDouble).memory_format(std::nullopt);
  const at::Tensor sums = at::empty({splits, num_tiles, kGramTile, kGramTile}, options);
  FSC_DISPATCH(left.input.scalar_type(), fsc::kGramOp, [&] {
    fsc::launch<true>({num_tiles, fsc::device::kGramThreads, sizeof(fsc::device::GramMemory<scalar_t>), splits},
                      fsc::device::gram_tiles_kernel<scalar_t>, features_of<scalar_t>(left),
                      features_of<scalar_t>(right), tiles, panels, num_panels, splits, sums.data_ptr<double>());
  });
  AT_DISPATCH_FLOATING_TYPES(gram.scalar_type(), fsc::kGramOp, [&] {
    fsc::launch<false>({num_tiles, fsc::device::kGramThreads, 0, kGramTile * kGramTile / fsc::device::kGramThreads},
                       fsc::device::add_tiles_kernel<scalar_t>, sums.const_data_ptr<double>(), tiles, splits,
                       gram.data_ptr<scalar_t>());
  });
}

void accumulate(const Grams& grams, const std::optional<GramSide>& student, const std::optional<GramSide>& teacher) {
  const fsc::OnDeviceOf device(student.has_value() ? student->input : teacher->input);
  if (grams.student.defined()) add_product(grams.student, *student, *student, true);
  if (grams.cross.defined()) add_product(grams.cross, *teacher, *student, false);
  if (grams.teacher.defined()) add_product(grams.teacher, *teacher, *teacher, true);
}

void gram_accumulate_cuda(const OptionalTensor& gram_student, const OptionalTensor& gram_cross,
                          const OptionalTensor& gram_teacher, const OptionalTensor& student,
                          const OptionalTensor& teacher, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation) {
  fsc::update_grams(gram_student, gram_cross, gram_teacher, student, teacher, {kernel_size, stride, padding, dilation},
                    accumulate);
}

}  // namespace

FSC_CUDA_OPERATORS(m) { m.impl("gram_accumulate_", gram_accumulate_cuda); }
