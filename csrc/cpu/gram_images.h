// Images as products of displaced ones read them: 16 channels innermost, then a few images, so that pixels beside one
// another are a run long enough to multiply, however small the images.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "gram.h"

namespace fsc {

// What is read at once: some images, or some pixels of them where no window needs their neighbours.
struct ImagePart {
  int64_t first, count;  // images
  int64_t first_pixel, height, width;
  int64_t group;  // images beside one another

  int64_t pixels() const { return height * width; }
};

// Some images of one side, [blocks of 16 channels, groups, height, width, images of the group, 16]; missing channels
// are zeros.
class InterleavedImages {
 public:
  // Room for `most` pixels of all images together.
  InterleavedImages(const GramSide& side, int64_t most);

  void read(const ImagePart& part);

  int64_t height() const { return part_.height; }
  int64_t width() const { return part_.width; }
  int64_t blocks() const;
  // How many of the 16 channels there are.
  int64_t channels(int64_t block) const;
  int64_t groups() const { return (part_.count + part_.group - 1) / part_.group; }
  int64_t images(int64_t group) const;
  const float* at(int64_t block, int64_t group) const;
  // Of every channel, over the pixels [left, right) of line y of all images.
  std::array<double, 16> sums_of_line(int64_t block, int64_t y, int64_t left, int64_t right) const;

 private:
  void read_block(const at::Tensor& images, int64_t block, int64_t image);
  float* place(int64_t block, int64_t group) const;

  const GramSide& side_;
  at::Tensor buffer_;
  ImagePart part_{};
};

}  // namespace fsc
