// Gram matrices of im2col columns on the CPU. The columns are never all there at once: panels of
// bounded width, matrix products by ATen in the dtype of the input within a panel, sums between
// panels in the dtype of the Gram matrix.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>

#include "check.h"
#include "cpu/clones.h"
#include "cpu/im2col.h"
#include "version_counter.h"

namespace {

using fsc::Axis;
using fsc::Range;
using fsc::Window;
using OptionalTensor = std::optional<at::Tensor>;

constexpr const char* kOp = "gram_accumulate_";
// Panels are as wide as fits in kPanelBytes, within these bounds.
constexpr int64_t kPanelBytes = 2 << 20;
constexpr int64_t kNarrowest = 512;
constexpr int64_t kWidest = 2048;
// The rows of a product are computed in blocks, so that blocks above the diagonal can be left out.
constexpr int64_t kSmallestBlock = 64;
constexpr int64_t kLargestBlock = 256;

// How many rows of `size` elements are worth a thread.
int64_t grain(int64_t size) { return std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, size)); }

// ---- panels ----

// One network's features and the panel that holds some of their columns.
struct Side {
  at::Tensor input;  // [N, C, H, W]
  Window window;
  bool ones;          // a last row of ones, for the bias
  at::Tensor buffer;  // [rows() * width of a panel]

  int64_t images() const { return input.size(0); }
  int64_t pixels() const { return window.height.outputs(input.size(2)) * window.width.outputs(input.size(3)); }
  int64_t features() const { return input.size(1) * window.taps(); }
  int64_t rows() const { return features() + (ones ? 1 : 0); }
  // Such an input is the transposed matrix of its columns already.
  bool is_matrix() const { return window.trivial() && !ones && input.is_contiguous(at::MemoryFormat::ChannelsLast); }
};

// Writes the columns in `range` of `images` [n, C, H, W], contiguous, to the buffer of `side`.
at::Tensor fill_panel(const Side& side, const at::Tensor& images, Range range) {
  const int64_t taps = side.window.taps(), columns = range.size();
  // Without a window the image is one long line.
  const bool line = side.window.trivial();
  const int64_t pixels = images.size(2) * images.size(3), image_stride = images.size(1) * pixels;
  const int64_t height = line ? 1 : images.size(2), width = line ? pixels : images.size(3);
  at::Tensor panel = side.buffer.narrow(0, 0, side.rows() * columns).view({side.rows(), columns});
  AT_DISPATCH_FLOATING_TYPES(images.scalar_type(), kOp, [&] {
    const scalar_t* source = images.const_data_ptr<scalar_t>();
    scalar_t* destination = panel.data_ptr<scalar_t>();
    at::parallel_for(0, side.features(), grain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        fsc::fill_row(source + r / taps * pixels, image_stride, height, width, side.window, r % taps, range,
                      destination + r * columns);
      }
    });
    if (side.ones) std::fill_n(destination + side.features() * columns, columns, scalar_t{1});
  });
  return panel;
}

// The columns in `range` of the chunk of `count` images that begins with image `first`: [rows, range.size()].
at::Tensor panel_of(const Side& side, int64_t first, int64_t count, Range range) {
  const at::Tensor images = side.input.narrow(0, first, count);
  if (!side.is_matrix()) return fill_panel(side, images.contiguous(), range);
  const at::Tensor matrix = images.permute({0, 2, 3, 1}).view({count * side.pixels(), images.size(1)});
  return matrix.narrow(0, range.begin, range.size()).t();
}

// ---- sums ----

template <typename gram_t, typename scalar_t>
FSC_CLONES void add_line(gram_t* gram, const scalar_t* product, int64_t size) {
  for (int64_t i = 0; i < size; ++i) gram[i] += static_cast<gram_t>(product[i]);
}

// gram[begin : begin + rows, :columns] += product
void add_block(const at::Tensor& gram, int64_t begin, const at::Tensor& product) {
  const int64_t rows = product.size(0), columns = product.size(1), stride = gram.size(1);
  AT_DISPATCH_FLOATING_TYPES(gram.scalar_type(), kOp, [&] {
    using gram_t = scalar_t;
    gram_t* destination = gram.data_ptr<gram_t>() + begin * stride;
    AT_DISPATCH_FLOATING_TYPES(product.scalar_type(), kOp, [&] {
      const scalar_t* source = product.const_data_ptr<scalar_t>();
      at::parallel_for(0, rows, grain(columns), [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) add_line(destination + r * stride, source + r * columns, columns);
      });
    });
  });
}

int64_t block_rows(int64_t rows) { return std::clamp<int64_t>((rows + 3) / 4, kSmallestBlock, kLargestBlock); }

// gram += left right^T; of a symmetric product only the blocks that touch the lower triangle.
void add_product(const at::Tensor& gram, const at::Tensor& left, const at::Tensor& right, bool symmetric,
                 const at::Tensor& scratch) {
  const int64_t rows = left.size(0), block = block_rows(rows);
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t count = std::min(block, rows - begin);
    const int64_t columns = symmetric ? begin + count : right.size(0);
    at::Tensor product = scratch.narrow(0, 0, count * columns).view({count, columns});
    at::mm_out(product, left.narrow(0, begin, count), right.narrow(0, 0, columns).t());
    add_block(gram, begin, product);
  }
}

// Copies the lower triangle to the upper one, tile by tile.
void mirror(const at::Tensor& gram) {
  constexpr int64_t tile = 32;
  const int64_t size = gram.size(0), tiles = (size + tile - 1) / tile;
  AT_DISPATCH_FLOATING_TYPES(gram.scalar_type(), kOp, [&] {
    scalar_t* data = gram.data_ptr<scalar_t>();
    at::parallel_for(0, tiles, grain(tile * size), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin * tile; t < std::min(size, end * tile); t += tile) {
        for (int64_t s = t; s < size; s += tile) {
          for (int64_t i = t; i < std::min(size, t + tile); ++i) {
            for (int64_t j = std::max(i + 1, s); j < std::min(size, s + tile); ++j)
              data[i * size + j] = data[j * size + i];
          }
        }
      }
    });
  });
}

// ---- the loop over panels ----

struct Grams {
  at::Tensor student, cross, teacher;  // undefined where not asked for
};

// Both sides have the same number of images and of pixels; a side may be missing.
void accumulate_panels(std::optional<Side> student, std::optional<Side> teacher, const Grams& grams) {
  const Side& any = student.has_value() ? *student : *teacher;
  const int64_t images = any.images(), pixels = any.pixels();
  if (images * pixels == 0) return;
  const int64_t student_rows = student.has_value() ? student->rows() : 0;
  const int64_t teacher_rows = teacher.has_value() ? teacher->rows() : 0;
  const int64_t column_bytes = std::max<int64_t>(1, (student_rows + teacher_rows) * any.input.element_size());
  const int64_t widest = std::clamp(kPanelBytes / column_bytes, kNarrowest, kWidest);
  const int64_t chunk = std::max<int64_t>(1, std::min(images, widest / pixels));
  const int64_t width = std::min(widest, chunk * pixels);

  const auto options = any.input.options().memory_format(std::nullopt);
  for (auto* side : {&student, &teacher}) {
    if (side->has_value()) (*side)->buffer = at::empty({(*side)->rows() * width}, options);
  }
  const int64_t most_rows = std::max(student_rows, teacher_rows);
  const at::Tensor scratch = at::empty({block_rows(most_rows) * most_rows}, options);

  for (int64_t first = 0; first < images; first += chunk) {
    const int64_t count = std::min(chunk, images - first), columns = count * pixels;
    const int64_t panels = (columns + width - 1) / width;
    for (int64_t p = 0; p < panels; ++p) {
      const Range range{p * columns / panels, (p + 1) * columns / panels};
      const at::Tensor left = teacher.has_value() ? panel_of(*teacher, first, count, range) : at::Tensor();
      const at::Tensor right = student.has_value() ? panel_of(*student, first, count, range) : at::Tensor();
      if (grams.student.defined()) add_product(grams.student, right, right, true, scratch);
      if (grams.cross.defined()) add_product(grams.cross, left, right, false, scratch);
      if (grams.teacher.defined()) add_product(grams.teacher, left, left, true, scratch);
    }
  }
  for (const at::Tensor& gram : {grams.student, grams.teacher}) {
    if (gram.defined()) mirror(gram);
  }
}

// ---- arguments ----

// Pairs count height, then width.
Axis check_axis(size_t i, const std::array<at::IntArrayRef, 4>& pairs) {
  constexpr std::array<const char*, 4> names{"kernel_size", "stride", "padding", "dilation"};
  for (size_t p = 0; p < pairs.size(); ++p) {
    TORCH_CHECK(pairs[p].size() == 2, kOp, ": ", names[p], " must be one number or two, got ", pairs[p]);
    const int64_t least = p == 2 ? 0 : 1;
    TORCH_CHECK(pairs[p][i] >= least, kOp, ": ", names[p], " must be at least ", least, ", got ", pairs[p]);
  }
  return {pairs[0][i], pairs[1][i], pairs[2][i], pairs[3][i]};
}

at::Tensor check_input(const char* name, const OptionalTensor& input, const Window& window) {
  TORCH_CHECK(input.has_value(), kOp, ": ", name, " must be given where a Gram matrix needs it, got None");
  fsc::check_floating(kOp, name, *input);
  TORCH_CHECK(input->dim() == 4 || input->dim() == 2, kOp, ": ", name, " must be [N, C, H, W] or [N, C], got ",
              input->sizes());
  const at::Tensor images = input->dim() == 4 ? *input : input->unsqueeze(2).unsqueeze(3);
  const bool fits = window.height.outputs(images.size(2)) > 0 && window.width.outputs(images.size(3)) > 0;
  TORCH_CHECK(fits || images.numel() == 0, kOp, ": ", name, " must be as large as the kernel, got ", images.sizes());
  return images;
}

// Whether the matrix has a row of ones more than the features; `rows` and `columns` count the features.
bool check_gram(const char* name, const at::Tensor& gram, int64_t rows, int64_t columns, const at::Tensor& input) {
  fsc::check_floating(kOp, name, gram);
  TORCH_CHECK(gram.element_size() >= input.element_size(), kOp, ": ", name, " must be as wide as its input (",
              input.scalar_type(), "), got ", gram.scalar_type());
  const bool ones = gram.dim() == 2 && gram.size(0) == rows + 1 && gram.size(1) == columns + 1;
  const bool plain = gram.dim() == 2 && gram.size(0) == rows && gram.size(1) == columns;
  TORCH_CHECK(ones || plain, kOp, ": ", name, " must be [", rows, ", ", columns,
              "], or one more each for a row of ones, got ", gram.sizes());
  return ones;
}

void check_pair(const at::Tensor& student, const at::Tensor& teacher) {
  fsc::check_same_dtype(kOp, "student", student, "teacher", teacher);
  const bool same = student.size(0) == teacher.size(0) && student.sizes().slice(2) == teacher.sizes().slice(2);
  TORCH_CHECK(same, kOp, ": student must have the N, H and W of teacher ", teacher.sizes(), " for gram_cross, got ",
              student.sizes());
}

// One Gram matrix and the sides of its rows and columns, which are null where it is not asked for.
struct Target {
  const char* name;
  const OptionalTensor& gram;
  const std::optional<Side>& rows;
  const std::optional<Side>& columns;
};

// Whether the Gram matrices have a row of ones: all of them or none.
bool check_grams(const std::array<Target, 3>& targets) {
  std::optional<bool> ones;
  for (const Target& target : targets) {
    if (!target.gram.has_value()) continue;
    const Side &rows = *target.rows, &columns = *target.columns;
    const bool here = check_gram(target.name, *target.gram, rows.features(), columns.features(), rows.input);
    TORCH_CHECK(ones.value_or(here) == here, kOp, ": ", target.name,
                " must have a row of ones if and only if the other Gram matrices have, got ", target.gram->sizes());
    ones = here;
  }
  TORCH_CHECK(ones.has_value(), kOp, ": at least one Gram matrix must be given, got None");
  return *ones;
}

void accumulate(const std::array<Target, 3>& targets, const std::optional<Side>& student,
                const std::optional<Side>& teacher) {
  std::array<at::Tensor, 3> sums;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].gram.has_value()) sums[i] = targets[i].gram->contiguous();
  }
  if (sums[1].defined()) {
    accumulate_panels(student, teacher, {sums[0], sums[1], sums[2]});
  } else {
    if (student.has_value()) accumulate_panels(student, std::nullopt, {sums[0], {}, {}});
    if (teacher.has_value()) accumulate_panels(std::nullopt, teacher, {{}, {}, sums[2]});
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!sums[i].defined()) continue;
    if (!sums[i].is_same(*targets[i].gram)) targets[i].gram->copy_(sums[i]);
    fsc::mark_changed(*targets[i].gram);
  }
}

void gram_accumulate_cpu(const OptionalTensor& gram_student, const OptionalTensor& gram_cross,
                         const OptionalTensor& gram_teacher, const OptionalTensor& student,
                         const OptionalTensor& teacher, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation) {
  const std::array<at::IntArrayRef, 4> pairs{kernel_size, stride, padding, dilation};
  const Window window{check_axis(0, pairs), check_axis(1, pairs)};
  const bool both = gram_cross.has_value();
  std::optional<Side> left, right;
  if (both || gram_teacher.has_value()) left = Side{check_input("teacher", teacher, window), window, false, {}};
  if (both || gram_student.has_value()) right = Side{check_input("student", student, window), window, false, {}};
  if (both) check_pair(right->input, left->input);
  const std::array<Target, 3> targets{{{"gram_student", gram_student, right, right},
                                       {"gram_cross", gram_cross, left, right},
                                       {"gram_teacher", gram_teacher, left, left}}};
  const bool ones = check_grams(targets);
  for (auto* side : {&left, &right}) {
    if (side->has_value()) (*side)->ones = ones;
  }
  accumulate(targets, right, left);
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) { m.impl("gram_accumulate_", gram_accumulate_cpu); }
