#include "cpu/gram_images.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>

#include "cpu/clones.h"
#include "cpu/gram_correlation.h"

namespace {

using fsc::kDepth;
using fsc::kSide;

// Pixels whose channels follow one another in memory.
void copy_pixels(const float* source, int64_t source_stride, int64_t channels, int64_t count, float* pixels,
                 int64_t stride) {
  for (int64_t p = 0; p < count; ++p) {
    std::copy_n(source + p * source_stride, channels, pixels + p * stride);
    std::fill(pixels + p * stride + channels, pixels + p * stride + kSide, 0.0f);
  }
}

// sums += the pixels'; in float32, as there are few in a line.
FSC_CLONES void add_pixels(const float* pixels, int64_t count, double* sums) {
  float line[kSide] = {};
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t c = 0; c < kSide; ++c) line[c] += pixels[p * kSide + c];
  }
  for (int64_t c = 0; c < kSide; ++c) sums[c] += line[c];
}

}  // namespace

fsc::InterleavedImages::InterleavedImages(const GramSide& side, int64_t most) : side_(side) {
  buffer_ = at::empty({blocks() * most * kSide}, side.input.options().memory_format(std::nullopt));
}

int64_t fsc::InterleavedImages::blocks() const { return (side_.channels() + kSide - 1) / kSide; }

int64_t fsc::InterleavedImages::channels(int64_t block) const {
  return std::min(kSide, side_.channels() - block * kSide);
}

int64_t fsc::InterleavedImages::images(int64_t group) const {
  return std::min(part_.group, part_.count - group * part_.group);
}

float* fsc::InterleavedImages::place(int64_t block, int64_t group) const {
  const int64_t image = block * part_.count + group * part_.group;
  return buffer_.data_ptr<float>() + image * part_.pixels() * kSide;
}

const float* fsc::InterleavedImages::at(int64_t block, int64_t group) const { return place(block, group); }

void fsc::InterleavedImages::read(const ImagePart& part) {
  part_ = part;
  at::Tensor images = side_.input.narrow(0, part.first, part.count);
  if (!images.is_contiguous(at::MemoryFormat::ChannelsLast)) images = images.contiguous();
  at::parallel_for(0, blocks() * part.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) read_block(images, i / part.count, i % part.count);
  });
}

void fsc::InterleavedImages::read_block(const at::Tensor& images, int64_t block, int64_t image) {
  const int64_t count = channels(block), pixels = images.size(2) * images.size(3);
  const bool last = images.is_contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t pixel = last ? images.size(1) : 1, channel = last ? 1 : pixels;
  const float* source = images.const_data_ptr<float>() + image * images.size(1) * pixels + part_.first_pixel * pixel;
  const int64_t* chosen = side_.chosen.has_value() ? side_.chosen->const_data_ptr<int64_t>() : nullptr;

  const int64_t group = image / part_.group, stride = this->images(group) * kSide;
  float* destination = place(block, group) + image % part_.group * kSide;
  if (pixel != 1 && chosen == nullptr) {
    return copy_pixels(source + block * kSide, pixel, count, part_.pixels(), destination, stride);
  }
  std::array<const float*, kSide> rows;
  for (int64_t c = 0; c < kSide; ++c) {
    const int64_t listed = block * kSide + std::min(c, count - 1);
    rows[c] = source + (chosen == nullptr ? listed : chosen[listed]) * channel;
  }
  if (pixel == 1) {
    fsc::interleave(rows.data(), part_.pixels(), destination, stride);
  } else {
    for (int64_t p = 0; p < part_.pixels(); ++p) {
      for (int64_t c = 0; c < kSide; ++c) destination[p * stride + c] = rows[c][p * pixel];
    }
  }
  if (count == kSide) return;
  for (int64_t p = 0; p < part_.pixels(); ++p) {
    std::fill(destination + p * stride + count, destination + p * stride + kSide, 0.0f);
  }
}

std::array<double, kSide> fsc::InterleavedImages::sums_of_line(int64_t block, int64_t y, int64_t left,
                                                               int64_t right) const {
  std::array<double, kSide> sums{};
  for (int64_t group = 0; group < groups(); ++group) {
    const int64_t count = images(group) * kSide;
    const float* line = at(block, group) + y * part_.width * count;
    for (int64_t p = left * count; p < right * count; p += kDepth * kSide) {
      add_pixels(line + p, std::min(kDepth, (right * count - p) / kSide), sums.data());
    }
  }
  return sums;
}
