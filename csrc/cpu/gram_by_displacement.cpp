// Gram matrices of windows that move by single pixels: of every displacement of 16 channels against 16 others one
// product over all images, from which the products of all pairs of taps are added up.
#include "cpu/gram_by_displacement.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "cpu/clones.h"
#include "cpu/gram_correlation.h"
#include "cpu/gram_displacement.h"
#include "cpu/gram_images.h"
#include "cpu/gram_ones.h"

namespace {

using fsc::Displacement;
using fsc::Grams;
using fsc::GramSide;
using fsc::InterleavedImages;
using fsc::kDepth;
using fsc::kSide;
using fsc::kTile;
using fsc::Product;
using fsc::Products;

// Pixels of 16 channels that stay in the first cache while all displacements pass over them.
constexpr int64_t kStrip = 128;
// Products that float32 sums of sums take up, before they are added in float64.
constexpr int64_t kUnflushed = 256;
// What is read at once: of windows enough to pay for joining their sums, otherwise what a cache holds.
constexpr int64_t kWindowedPixels = 8192;
constexpr int64_t kPointwiseBytes = 2 << 20;
constexpr int64_t kFewestPixels = 128;
// Images stand beside one another until their rows have so many pixels.
constexpr int64_t kRow = 64;
// Of more taps, the sums of all pairs for 16 channels against 16 would leave the caches.
constexpr int64_t kMostTaps = 49;

// ---- the products of 16 channels with 16 others ----

// Sums in float32 that are added to a total in float64 before they grow long.
class Sums {
 public:
  void add(const float* left, const float* right, int64_t count, double* total) {
    for (int64_t p = 0; p < count; p += kDepth) {
      const int64_t depth = std::min(kDepth, count - p);
      fsc::correlate(left + p * kSide, right + p * kSide, depth, sums_);
      if ((unflushed_ += depth) >= kUnflushed) flush(total);
    }
  }

  void flush(double* total) {
    if (unflushed_ > 0) fsc::flush(sums_, total);
    unflushed_ = 0;
  }

 private:
  alignas(64) float sums_[kTile] = {};
  int64_t unflushed_ = 0;
};

// The rows in [top, bottom) of `count` images beside one another, width `width`.
struct Strip {
  int64_t top, bottom, width, count;

  int64_t offset(int64_t y, int64_t x) const { return (y * width + x) * count * kSide; }
};

void add_product(const Strip& strip, const Product& product, const float* left, const float* right, Sums& sums,
                 double* regions) {
  const Displacement &vertical = *product.vertical, &horizontal = *product.horizontal;
  for (int64_t v = 0; v < vertical.segments(); ++v) {
    const int64_t top = std::max(strip.top, vertical.cuts[v]), bottom = std::min(strip.bottom, vertical.cuts[v + 1]);
    for (int64_t h = 0; h < horizontal.segments(); ++h) {
      const int64_t x = horizontal.cuts[h], pixels = (horizontal.cuts[h + 1] - x) * strip.count;
      double* region = regions + (product.first_region + v * horizontal.segments() + h) * kTile;
      for (int64_t y = top; y < bottom; ++y) {
        const int64_t displaced = strip.offset(y + vertical.shift, x + horizontal.shift);
        sums.add(left + strip.offset(y, x), right + displaced, pixels, region);
      }
      sums.flush(region);
    }
  }
}

// regions [regions, 16, 16] += the first `count` products of two blocks of channels.
void add_products(const InterleavedImages& left, int64_t left_block, const InterleavedImages& right,
                  int64_t right_block, const Products& products, int64_t count, double* regions) {
  Sums sums;
  for (int64_t group = 0; group < left.groups(); ++group) {
    const float *a = left.at(left_block, group), *b = right.at(right_block, group);
    const int64_t images = left.images(group);
    const int64_t rows = std::max<int64_t>(1, kStrip / (left.width() * images));
    for (int64_t top = 0; top < left.height(); top += rows) {
      const Strip strip{top, std::min(left.height(), top + rows), left.width(), images};
      for (int64_t p = 0; p < count; ++p) add_product(strip, products.all[p], a, b, sums, regions);
    }
  }
}

// ---- from regions to pairs of taps ----

// pairs[t, u] [16, 16] for all taps t and u; of the same block of channels those with t < u mirror those with t > u.
void join_regions(const Products& products, int64_t count, bool same, const double* regions, double* pairs) {
  const int64_t taps = products.taps;
  for (int64_t p = 0; p < count; ++p) {
    const Product& product = products.all[p];
    const int64_t across = product.horizontal->segments();
    for (const auto& v : product.vertical->pairs) {
      for (const auto& h : product.horizontal->pairs) {
        const int64_t t = v.row * products.taps_across + h.row, u = v.column * products.taps_across + h.column;
        double* pair = pairs + (t * taps + u) * kTile;
        std::fill_n(pair, kTile, 0.0);
        for (int64_t y = v.first; y < v.last; ++y) {
          for (int64_t x = h.first; x < h.last; ++x) {
            const double* region = regions + (product.first_region + y * across + x) * kTile;
            for (int64_t i = 0; i < kTile; ++i) pair[i] += region[i];
          }
        }
        if (!same || t == u) continue;
        double* mirrored = pairs + (u * taps + t) * kTile;
        for (int64_t i = 0; i < kTile; ++i) mirrored[i % kSide * kSide + i / kSide] = pair[i];
      }
    }
  }
}

// gram [rows of channels and taps, columns of channels and taps] += pairs.
template <typename gram_t>
void add_pairs(const double* pairs, int64_t taps, int64_t rows, int64_t columns, gram_t* gram, int64_t stride) {
  for (int64_t r = 0; r < rows * taps; ++r) {
    const double* pair = pairs + r % taps * taps * kTile + r / taps * kSide;  // [taps, 16], kTile apart
    gram_t* to = gram + r * stride;
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t u = 0; u < taps; ++u) *to++ += static_cast<gram_t>(pair[u * kTile + c]);
    }
  }
}

// The same where there is one tap.
template <typename gram_t>
FSC_CLONES void add_pair(const double* pair, int64_t rows, int64_t columns, gram_t* gram, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) gram[r * stride + c] += static_cast<gram_t>(pair[r * kSide + c]);
  }
}

// ---- whole matrices ----

// One network's images, part after part, and the sums of their columns.
struct Side {
  Side(const GramSide& side, int64_t most) : images(side, most), sums(side.ones ? side.features() : 0) {}

  InterleavedImages images;
  std::vector<double> sums;
};

// Two blocks of channels and the matrix that has their products.
struct Task {
  const at::Tensor& gram;
  const InterleavedImages &left, &right;
  int64_t left_block, right_block;
  bool same;  // a block of a symmetric matrix on its diagonal
};

struct Memory {
  explicit Memory(const Products& products)
      : regions(products.regions * kTile), pairs(products.taps * products.taps * kTile) {}

  std::vector<double> regions, pairs;
};

void run(const Task& task, const Products& products, Memory& memory) {
  const int64_t count = task.same ? products.backward : static_cast<int64_t>(products.all.size());
  const int64_t taps = products.taps, stride = task.gram.size(1);
  std::fill(memory.regions.begin(), memory.regions.end(), 0.0);
  add_products(task.left, task.left_block, task.right, task.right_block, products, count, memory.regions.data());
  if (taps > 1) join_regions(products, count, task.same, memory.regions.data(), memory.pairs.data());
  const int64_t row = task.left_block * kSide * taps, column = task.right_block * kSide * taps;
  const int64_t rows = task.left.channels(task.left_block), columns = task.right.channels(task.right_block);
  AT_DISPATCH_FLOATING_TYPES(task.gram.scalar_type(), fsc::kGramOp, [&] {
    scalar_t* to = task.gram.data_ptr<scalar_t>() + row * stride + column;
    if (taps > 1) {
      add_pairs(memory.pairs.data(), taps, rows, columns, to, stride);
    } else {
      add_pair(memory.regions.data(), rows, columns, to, stride);
    }
  });
}

void append(std::vector<Task>& tasks, const at::Tensor& gram, const InterleavedImages& left,
            const InterleavedImages& right, bool symmetric) {
  if (!gram.defined()) return;
  for (int64_t a = 0; a < left.blocks(); ++a) {
    for (int64_t b = 0; b < (symmetric ? a + 1 : right.blocks()); ++b) {
      tasks.push_back({gram, left, right, a, b, symmetric && a == b});
    }
  }
}

void add_ones(const Grams& grams, const std::optional<Side>& student, const std::optional<Side>& teacher,
              double columns) {
  if (grams.student.defined()) fsc::add_last(grams.student, student->sums, false, columns);
  if (grams.teacher.defined()) fsc::add_last(grams.teacher, teacher->sums, false, columns);
  if (!grams.cross.defined()) return;
  fsc::add_last(grams.cross, student->sums, false, columns);
  fsc::add_last(grams.cross, teacher->sums, true, 0);
}

// How the images are read: as many at once as there is room for, and some pixels of one where no window needs their
// neighbours.
std::vector<fsc::ImagePart> parts_of(const GramSide& side, int64_t blocks) {
  const int64_t height = side.input.size(2), width = side.input.size(3), images = side.images();
  const int64_t pixel_bytes = blocks * kSide * static_cast<int64_t>(sizeof(float));
  const int64_t room =
      side.window.taps() > 1 ? kWindowedPixels : std::max(kFewestPixels, kPointwiseBytes / pixel_bytes);
  std::vector<fsc::ImagePart> parts;
  const bool line = side.window.trivial();
  const int64_t pixels = height * width, pieces = line ? (pixels + room - 1) / room : 1;
  const int64_t most = std::clamp<int64_t>(room / pixels, 1, images), chunks = (images + most - 1) / most;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * images / chunks, count = (chunk + 1) * images / chunks - first;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t begin = piece * pixels / pieces, end = (piece + 1) * pixels / pieces;
      if (line) {
        parts.push_back({first, count, begin, 1, end - begin, count});
      } else {
        parts.push_back({first, count, 0, height, width, std::clamp<int64_t>(kRow / width, 1, count)});
      }
    }
  }
  return parts;
}

void add_part(const Grams& grams, std::optional<Side>& student, std::optional<Side>& teacher,
              const Products& products) {
  for (auto* side : {&student, &teacher}) {
    if (side->has_value() && !(*side)->sums.empty()) fsc::add_tap_sums((*side)->images, products, (*side)->sums);
  }
  std::vector<Task> tasks;
  if (student.has_value()) append(tasks, grams.student, student->images, student->images, true);
  if (grams.cross.defined()) append(tasks, grams.cross, teacher->images, student->images, false);
  if (teacher.has_value()) append(tasks, grams.teacher, teacher->images, teacher->images, true);
  at::parallel_for(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    Memory memory(products);
    for (int64_t task = begin; task < end; ++task) run(tasks[task], products, memory);
  });
}

}  // namespace

void fsc::add_by_displacement(const Grams& grams, const GramSide* student, const GramSide* teacher) {
  const GramSide& any = student != nullptr ? *student : *teacher;
  int64_t blocks = 0, most = 0;
  for (const GramSide* side : {student, teacher}) {
    if (side != nullptr) blocks += (side->channels() + kSide - 1) / kSide;
  }
  const std::vector<ImagePart> parts = parts_of(any, blocks);
  for (const ImagePart& part : parts) most = std::max(most, part.count * part.pixels());
  std::optional<Side> left, right;
  if (teacher != nullptr) left.emplace(*teacher, most);
  if (student != nullptr) right.emplace(*student, most);
  std::optional<Products> products;
  for (const ImagePart& part : parts) {
    if (!products || products->width != part.width) products.emplace(any.window, part.height, part.width);
    if (left) left->images.read(part);
    if (right) right->images.read(part);
    add_part(grams, right, left, *products);
  }
  if (any.ones) add_ones(grams, right, left, static_cast<double>(any.images() * any.pixels()));
}

bool fsc::pays_by_displacement(const GramSide& side) {
  const Axis &height = side.window.height, &width = side.window.width;
  if (side.input.scalar_type() != at::kFloat || side.input.numel() == 0) return false;
  if (height.stride != 1 || width.stride != 1 || !correlates_fast()) return false;
  const int64_t channels = (side.channels() + kSide - 1) / kSide * kSide, taps = side.window.taps();
  const int64_t displaced = (2 * height.kernel - 1) * (2 * width.kernel - 1) * channels * channels;
  // The products of few columns are slower than their number says.
  return taps <= kMostTaps && 2 * displaced < 3 * side.features() * side.features();
}
