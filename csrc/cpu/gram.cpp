// Gram matrices of im2col columns on the CPU. The columns are never all there at once: panels of
// bounded width, matrix products by ATen in the dtype of the input within a panel, sums between
// panels in the dtype of the Gram matrix. Where products of displaced images are fewer, they take their place.
#include "gram.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>

#include "cpu/clones.h"
#include "cpu/gram_by_displacement.h"
#include "cpu/im2col.h"

namespace {

using fsc::Grams;
using fsc::OptionalTensor;
using fsc::Range;

constexpr const char* kOp = fsc::kGramOp;
// Panels are as wide as fits in kPanelBytes, within these bounds.
constexpr int64_t kPanelBytes = 2 << 20;
constexpr int64_t kNarrowest = 512;
constexpr int64_t kWidest = 2048;
// The rows of a product are computed in blocks, so that blocks above the diagonal can be left out.
constexpr int64_t kSmallestBlock = 64;
constexpr int64_t kLargestBlock = 256;
// The side of the tiles in which a lower triangle is copied to the upper one.
constexpr int64_t kMirrored = 32;

// How many rows of `size` elements are worth a thread.
int64_t grain(int64_t size) { return std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, size)); }

// ---- panels ----

// One network's features and the panel that holds some of their columns.
struct Side : fsc::GramSide {
  at::Tensor buffer = {};  // [rows() * width of a panel]

  // Such an input is the transposed matrix of its columns already.
  bool is_matrix() const {
    return window.trivial() && !ones && !chosen.has_value() && input.is_contiguous(at::MemoryFormat::ChannelsLast);
  }
};

// Writes the columns in `range` of `images` [n, C, H, W], contiguous, to the buffer of `side`.
at::Tensor fill_panel(const Side& side, const at::Tensor& images, Range range) {
  const int64_t taps = side.window.taps(), columns = range.size();
  // Without a window the image is one long line.
  const bool line = side.window.trivial();
  const int64_t pixels = images.size(2) * images.size(3), image_stride = images.size(1) * pixels;
  const int64_t height = line ? 1 : images.size(2), width = line ? pixels : images.size(3);
  const int64_t* chosen = side.chosen.has_value() ? side.chosen->const_data_ptr<int64_t>() : nullptr;
  at::Tensor panel = side.buffer.narrow(0, 0, side.rows() * columns).view({side.rows(), columns});
  AT_DISPATCH_FLOATING_TYPES(images.scalar_type(), kOp, [&] {
    const scalar_t* source = images.const_data_ptr<scalar_t>();
    scalar_t* destination = panel.data_ptr<scalar_t>();
    at::parallel_for(0, side.features(), grain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t channel = chosen == nullptr ? r / taps : chosen[r / taps];
        fsc::fill_row(source + channel * pixels, image_stride, height, width, side.window, r % taps, range,
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

// to [columns, rows] = from [rows, columns], which overlap nowhere; through a buffer, because rows a power of two apart
// would push one another out of the cache.
template <typename gram_t>
void transpose_tile(const gram_t* from, gram_t* to, int64_t rows, int64_t columns, int64_t stride) {
  gram_t buffer[kMirrored][kMirrored + 1];
  for (int64_t r = 0; r < rows; ++r) std::copy_n(from + r * stride, columns, buffer[r]);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) to[c * stride + r] = buffer[r][c];
  }
}

// Copies the lower triangle to the upper one, tile by tile.
void mirror(const at::Tensor& gram) {
  const int64_t size = gram.size(0), tiles = (size + kMirrored - 1) / kMirrored;
  AT_DISPATCH_FLOATING_TYPES(gram.scalar_type(), kOp, [&] {
    scalar_t* data = gram.data_ptr<scalar_t>();
    at::parallel_for(0, tiles, grain(kMirrored * size), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin * kMirrored; t < std::min(size, end * kMirrored); t += kMirrored) {
        const int64_t rows = std::min(kMirrored, size - t);
        for (int64_t s = 0; s < t; s += kMirrored) {
          transpose_tile(data + t * size + s, data + s * size + t, rows, kMirrored, size);
        }
        for (int64_t i = t; i < t + rows; ++i) {
          for (int64_t j = t; j < i; ++j) data[j * size + i] = data[i * size + j];
        }
      }
    });
  });
}

// ---- the loop over panels ----

void add_panels(std::optional<Side> student, std::optional<Side> teacher, const Grams& grams) {
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
}

std::optional<Side> with_panel(const fsc::GramSide* side) {
  return side != nullptr ? std::optional<Side>(Side{*side}) : std::nullopt;
}

// Both sides have the same number of images and of pixels; a side may be missing.
void accumulate_sides(const Grams& grams, const fsc::GramSide* student, const fsc::GramSide* teacher) {
  const auto pays = [](const fsc::GramSide* side) { return side == nullptr || fsc::pays_by_displacement(*side); };
  if (pays(student) && pays(teacher)) {
    fsc::add_by_displacement(grams, student, teacher);
  } else {
    add_panels(with_panel(student), with_panel(teacher), grams);
  }
  for (const at::Tensor& gram : {grams.student, grams.teacher}) {
    if (gram.defined()) mirror(gram);
  }
}

void accumulate(const Grams& grams, const std::optional<fsc::GramSide>& student,
                const std::optional<fsc::GramSide>& teacher) {
  const fsc::GramSide *right = student.has_value() ? &*student : nullptr,
                      *left = teacher.has_value() ? &*teacher : nullptr;
  if (grams.cross.defined()) return accumulate_sides(grams, right, left);
  if (right != nullptr) accumulate_sides({grams.student, {}, {}}, right, nullptr);
  if (left != nullptr) accumulate_sides({{}, {}, grams.teacher}, nullptr, left);
}

void gram_accumulate_cpu(const OptionalTensor& gram_student, const OptionalTensor& gram_cross,
                         const OptionalTensor& gram_teacher, const OptionalTensor& student,
                         const OptionalTensor& teacher, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                         at::IntArrayRef padding, at::IntArrayRef dilation, const OptionalTensor& channels_student,
                         const OptionalTensor& channels_teacher) {
  fsc::update_grams(gram_student, gram_cross, gram_teacher, student, teacher, {kernel_size, stride, padding, dilation},
                    channels_student, channels_teacher, accumulate);
}

}  // namespace

TORCH_LIBRARY_IMPL(fsc_ext, CPU, m) { m.impl("gram_accumulate_", gram_accumulate_cpu); }
