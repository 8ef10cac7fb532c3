// Gram matrices of im2col columns on CUDA devices.
#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

#include "cuda/dispatch.cuh"
#include "cuda/gram_kernels.cuh"
#include "cuda/launch.cuh"
#include "cuda/vector.cuh"
#include "gram.h"

namespace {

using fsc::Axis;
using fsc::ceil_div;
using fsc::Grams;
using fsc::GramSide;
using fsc::OptionalTensor;
using fsc::device::GramCopies;
using fsc::device::GramTargets;
using fsc::device::GramTiles;
using fsc::device::kTile;
using OptionalSide = std::optional<GramSide>;

// ---- the grid ----

// What a block costs beside its slabs, in slabs: it begins, and its sums go to memory and to the Gram matrices.
constexpr int64_t kBlockCost = 6;
constexpr int64_t kLeastSlabs = 2;   // of a block, where there are few
constexpr int64_t kMostBlocks = 8;   // for a multiprocessor, where slabs are split
constexpr int64_t kLeastBlocks = 2;  // for a multiprocessor, where there are slabs enough

int64_t count_of(const GramTiles& tiles, int64_t lines) {
  const int64_t across = tiles.last_column + 1, stop = std::min(lines, across);
  const int64_t below = std::max<int64_t>(0, lines - std::max(across, tiles.first_line)) * across;
  return GramTiles::triangle(std::max(stop, tiles.first_line)) - GramTiles::triangle(tiles.first_line) + below;
}

// Among how many blocks the slabs of a tile are shared: so that the multiprocessor with most to do has least.
int64_t splits_of(int64_t num_tiles, int64_t slabs) {
  const int64_t processors = fsc::multiprocessors();
  const int64_t most = std::max<int64_t>(1, slabs / kLeastSlabs);
  const int64_t from = std::min(most, ceil_div(kLeastBlocks * processors, num_tiles));
  const int64_t to = std::min(most, std::max(from, kMostBlocks * processors / num_tiles));
  int64_t best = from, least = std::numeric_limits<int64_t>::max();
  for (int64_t splits = from; splits <= to; ++splits) {
    const int64_t cost = ceil_div(num_tiles * splits, processors) * (ceil_div(slabs, splits) + kBlockCost);
    if (cost < least) best = splits, least = cost;
  }
  return best;
}

// ---- the kernel for the inputs ----

// Whether offsets into these inputs and numbers of columns fit into 32 bits.
bool has_few_values(const GramSide& side) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max() / 2;
  int64_t last = 0;
  for (int64_t d = 0; d < 4; ++d) last += (side.input.size(d) - 1) * side.input.stride(d);
  return last < most && side.images() * side.pixels() < most;
}

// Whether two coordinates fit into 32 bits.
bool has_short_lines(const GramSide& side) {
  constexpr int64_t far = fsc::device::kFar<int32_t> / 2;
  const auto fits = [](const Axis& axis, int64_t size) {
    return size + 2 * axis.padding < far && axis.dilation * (axis.kernel - 1) < far;
  };
  return fits(side.window.height, side.input.size(2)) && fits(side.window.width, side.input.size(3));
}

// Whether the pixels of a channel are one line that can be copied `width` values at a time.
template <typename scalar_t>
bool has_lines(const GramSide& side, int64_t width) {
  const at::Tensor& input = side.input;
  const auto whole = [&](int64_t d) { return input.size(d) == 1 || input.stride(d) % width == 0; };
  const bool dense =
      (input.size(3) == 1 || input.stride(3) == 1) && (input.size(2) == 1 || input.stride(2) == input.size(3));
  const auto address = reinterpret_cast<uintptr_t>(input.const_data_ptr<scalar_t>());
  return side.window.trivial() && dense && side.pixels() % width == 0 && whole(0) && whole(1) &&
         address % (width * sizeof(scalar_t)) == 0;
}

// Whether the channels of a pixel are one line that can be copied `width` values at a time.
template <typename scalar_t>
bool has_pixels(const GramSide& side, int64_t width) {
  const at::Tensor& input = side.input;
  const auto whole = [&](int64_t d) { return input.size(d) == 1 || input.stride(d) % width == 0; };
  const auto address = reinterpret_cast<uintptr_t>(input.const_data_ptr<scalar_t>());
  constexpr int64_t exact = int64_t{1} << 32;  // of the quotients in Turn
  return side.features() * side.channels() < exact && !side.chosen.has_value() && input.stride(1) == 1 &&
         input.size(1) % width == 0 && whole(0) && whole(2) && whole(3) && address % (width * sizeof(scalar_t)) == 0;
}

// Calls run(index_t, std::integral_constant of GramCopies).
template <typename scalar_t, typename Run>
void choose(const OptionalSide& student, const OptionalSide& teacher, const Run& run) {
  constexpr int width = fsc::device::kWide<scalar_t>;
  const auto all = [&](const auto& holds) {
    return (!student.has_value() || holds(*student)) && (!teacher.has_value() || holds(*teacher));
  };
  const bool few = all(has_few_values), short_lines = all(has_short_lines);
  if (few && all([](const GramSide& side) { return has_lines<scalar_t>(side, width); })) {
    return run(int32_t{}, std::integral_constant<GramCopies, GramCopies::kPixels>{});
  }
  if (few && short_lines && all([](const GramSide& side) { return has_pixels<scalar_t>(side, width); })) {
    return run(int32_t{}, std::integral_constant<GramCopies, GramCopies::kChannels>{});
  }
  if (few && short_lines) return run(int32_t{}, std::integral_constant<GramCopies, GramCopies::kValues>{});
  run(int64_t{}, std::integral_constant<GramCopies, GramCopies::kValues>{});
}

template <typename scalar_t, typename index_t>
fsc::device::Features<scalar_t, index_t> features_of(const OptionalSide& side, bool line) {
  if (!side.has_value()) return {};
  const at::Tensor& input = side->input;
  // What a dimension of one has as its stride is arbitrary, and may break the alignment of copies.
  const auto stride = [&](int64_t d) { return static_cast<index_t>(input.size(d) == 1 ? 0 : input.stride(d)); };
  return {input.const_data_ptr<scalar_t>(),
          {stride(0), stride(1), line ? 0 : stride(2), line ? 1 : stride(3)},
          side->chosen.has_value() ? side->chosen->const_data_ptr<int64_t>() : nullptr,
          static_cast<int>(input.size(1)),
          static_cast<int>(side->features()),
          side->ones};
}

// `step`: columns from one that a thread stands at to its next. A channel that is one line counts as an image of one.
template <typename index_t>
fsc::device::Geometry<index_t> geometry_of(const GramSide& side, bool line, int64_t step) {
  const int64_t lines = line ? 1 : side.window.height.outputs(side.input.size(2));
  const int64_t width = side.pixels() / lines, pixels = side.pixels();
  const auto narrow = [](int64_t value) { return static_cast<index_t>(value); };
  return {{narrow(side.images()), narrow(lines), narrow(width), narrow(step / pixels), narrow(step % pixels / width),
           narrow(step % width)},
          narrow(side.input.size(2)),
          narrow(side.input.size(3)),
          side.window};
}

// ---- the operator ----

fsc::device::GramMatrix matrix_of(const at::Tensor& gram) {
  if (!gram.defined()) return {};
  return {gram.data_ptr(), gram.scalar_type() == at::kDouble};
}

// The rows of the teacher begin at a multiple of what a thread gathers.
GramTargets targets_of(const Grams& grams, const OptionalSide& student, const OptionalSide& teacher) {
  const int64_t above = student.has_value() ? student->rows() : 0, below = teacher.has_value() ? teacher->rows() : 0;
  const int64_t begin = ceil_div(above, fsc::device::kRowsOfNetwork) * fsc::device::kRowsOfNetwork;
  TORCH_CHECK(begin + below <= std::numeric_limits<int>::max() - kTile, fsc::kGramOp,
              ": the features of student and teacher must be fewer than 2^31, got ", above, " and ", below);
  return {matrix_of(grams.student),
          matrix_of(grams.cross),
          matrix_of(grams.teacher),
          static_cast<int>(above),
          static_cast<int>(below),
          static_cast<int>(begin),
          1};
}

// Rows are counted tap by tap.
fsc::device::Turn turned(const OptionalSide& side) {
  if (!side.has_value() || side->channels() == 0) return {1, 0, 0};
  return {static_cast<int>(side->window.taps()), static_cast<int>(side->channels()),
          static_cast<uint32_t>(ceil_div(int64_t{1} << 32, side->channels()))};
}

// The sides that are given have the same images and pixels.
void add_products(const Grams& grams, const OptionalSide& student, const OptionalSide& teacher) {
  const GramSide& any = student.has_value() ? *student : *teacher;
  GramTargets targets = targets_of(grams, student, teacher);
  const int64_t lines = ceil_div(targets.all_rows(), kTile);
  const GramTiles tiles{grams.student.defined() ? 0 : targets.teacher_begin / kTile,
                        grams.teacher.defined() ? lines - 1 : ceil_div(targets.teacher_begin, kTile) - 1};
  const int64_t num_tiles = count_of(tiles, lines), columns = any.images() * any.pixels();
  if (columns == 0 || num_tiles == 0) return;
  const fsc::OnDeviceOf device(any.input);
  FSC_DISPATCH(any.input.scalar_type(), fsc::kGramOp, [&] {
    constexpr int slab = fsc::device::kSlab<fsc::device::wide_t<scalar_t>>;
    const int64_t slabs = ceil_div(columns, slab), splits = splits_of(num_tiles, slabs);
    const auto options = any.input.options().dtype(at::kDouble).memory_format(std::nullopt);
    const at::Tensor sums = at::empty({splits == 1 ? 0 : splits, num_tiles, kTile, kTile}, options);
    choose<scalar_t>(student, teacher, [&](auto zero, auto copies) {
      using index_t = decltype(zero);
      constexpr bool line = copies() == GramCopies::kPixels;
      if (copies() == GramCopies::kChannels)
        targets.student_turn = turned(student), targets.teacher_turn = turned(teacher);
      const fsc::device::Stacked<scalar_t, index_t> rows{features_of<scalar_t, index_t>(student, line),
                                                         features_of<scalar_t, index_t>(teacher, line),
                                                         targets.teacher_begin};
      const int64_t step = slab / fsc::device::Operand<scalar_t, index_t, copies()>::kColumns;
      fsc::launch<true>(
          {num_tiles, fsc::device::kTileThreads, sizeof(fsc::device::GramMemory<scalar_t, index_t>), splits},
          fsc::device::gram_tiles_kernel<scalar_t, index_t, copies()>, rows, geometry_of<index_t>(any, line, step),
          targets, tiles, slabs, splits, sums.data_ptr<double>());
    });
    if (splits == 1) return;
    fsc::launch<true>({num_tiles, fsc::device::kAddThreads,
                       fsc::device::kAddRows * fsc::device::kPieceLine * static_cast<int64_t>(sizeof(double)),
                       kTile / fsc::device::kAddRows},
                      fsc::device::add_tiles_kernel, sums.const_data_ptr<double>(), targets, tiles, splits);
  });
}

// One grid for all that is asked for, but two where there is no cross product: then the images may differ.
void accumulate(const Grams& grams, const OptionalSide& student, const OptionalSide& teacher) {
  if (grams.cross.defined()) return add_products(grams, student, teacher);
  if (student.has_value()) add_products({grams.student, {}, {}}, student, std::nullopt);
  if (teacher.has_value()) add_products({{}, {}, grams.teacher}, std::nullopt, teacher);
}

void gram_accumulate_cuda(const OptionalTensor& gram_student, const OptionalTensor& gram_cross,
                          const OptionalTensor& gram_teacher, const OptionalTensor& student,
                          const OptionalTensor& teacher, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation, const OptionalTensor& channels_student,
                          const OptionalTensor& channels_teacher) {
  fsc::update_grams(gram_student, gram_cross, gram_teacher, student, teacher, {kernel_size, stride, padding, dilation},
                    channels_student, channels_teacher, accumulate);
}

}  // namespace

FSC_CUDA_OPERATORS(m) { m.impl("gram_accumulate_", gram_accumulate_cuda); }
