// Convolutions as products of tiles, with the im2col matrix gathered as it is needed: a layer's outputs with what
// follows them, and the gradient of its weight. One group; no ATen here.
#pragma once

#include <cstdint>

#include "cuda/cross_distill_kernels.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tile.cuh"

namespace fsc::device {

// A convolution's geometry. Strides of tensors are in elements: n, c, y, x.
struct Convolution {
  int64_t images, channels, height, width;
  int64_t filters, out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride[2], padding[2], dilation[2];
  int64_t input_strides[4];
  int64_t output_strides[4];

  FSC_DEVICE int64_t rows() const { return channels * kernel_height * kernel_width; }
  FSC_DEVICE int64_t pixels() const { return images * out_height * out_width; }
};

// One pixel of the output: where it lies, and the top left corner of what it sees.
struct Pixel {
  int64_t image, y, x;

  FSC_DEVICE static Pixel of(const Convolution& c, int64_t number) {
    const int64_t plane = c.out_height * c.out_width, inside = number % plane;
    return {number / plane, inside / c.out_width, inside % c.out_width};
  }
  FSC_DEVICE int64_t output(const Convolution& c, int64_t filter) const {
    return image * c.output_strides[0] + filter * c.output_strides[1] + y * c.output_strides[2] +
           x * c.output_strides[3];
  }
};

// Where row k of the im2col matrix of a pixel lies in the input; -1 in the padding.
FSC_DEVICE int64_t input_offset(const Convolution& c, const Pixel& p, int64_t k) {
  const int64_t taps = c.kernel_height * c.kernel_width, channel = k / taps, tap = k % taps;
  const int64_t y = p.y * c.stride[0] - c.padding[0] + tap / c.kernel_width * c.dilation[0];
  const int64_t x = p.x * c.stride[1] - c.padding[1] + tap % c.kernel_width * c.dilation[1];
  if (y < 0 || y >= c.height || x < 0 || x >= c.width) return -1;
  return p.image * c.input_strides[0] + channel * c.input_strides[1] + y * c.input_strides[2] + x * c.input_strides[3];
}

// Rows [first_row, first_row + 32) of the columns of 64 pixels, by pixel: slab[pixel][k].
template <typename real_t, typename Value>
FSC_DEVICE void gather(const Convolution& c, int64_t first_pixel, int64_t first_row, const Value& value,
                       Slab<real_t>& slab) {
  const int mine = thread() % kTile;
  const bool inside = first_pixel + mine < c.pixels();
  const Pixel pixel = Pixel::of(c, inside ? first_pixel + mine : 0);
  for (int k = thread() / kTile; k < kSlab; k += kTileThreads / kTile) {
    const bool used = inside && first_row + k < c.rows();
    const int64_t offset = used ? input_offset(c, pixel, first_row + k) : -1;
    slab[mine][k] = offset < 0 ? real_t(0) : value(offset);
  }
}

// Columns [first_column, first_column + 32) of 64 rows of a matrix [rows, columns].
template <typename scalar_t, typename real_t>
FSC_DEVICE void fetch(const scalar_t* matrix, int64_t rows, int64_t columns, int64_t first_row, int64_t first_column,
                      Slab<real_t>& slab) {
  for (int i = thread(); i < kTile * kSlab; i += kTileThreads) {
    const int64_t row = first_row + i / kSlab, column = first_column + i % kSlab;
    const bool inside = row < rows && column < columns;
    slab[i / kSlab][i % kSlab] = inside ? static_cast<real_t>(matrix[row * columns + column]) : real_t(0);
  }
}

// ---- a layer's outputs and what follows them ----

template <typename scalar_t>
struct LayerPointers {
  const scalar_t* input_teacher;   // [N, C_in, H, W]
  const scalar_t* input_student;   // [N, C_in, H, W]
  const scalar_t* weight_teacher;  // [C_out, C_in kH kW]
  const scalar_t* weight_student;  // [C_out, C_in kH kW]
  const scalar_t* bias_teacher;    // [C_out] or null
  const scalar_t* bias_student;    // [C_out] or null
  scalar_t* residual;              // [N, C_out, H_out, W_out]
  double* sums;                    // one a block
  double alpha;
  double beta;
  Epilogue epilogue;
};

template <typename real_t>
struct LayerMemory {
  Slab<real_t> weight_teacher, weight_student, x_teacher, x_student;
};

// The products of both networks' weights with the mixtures of their inputs, which are mixed as they are loaded.
template <typename scalar_t, typename real_t>
FSC_DEVICE void convolve_both(const LayerPointers<scalar_t>& p, const Convolution& c, int64_t first_pixel,
                              int64_t first_filter, Sums<real_t>& teacher, Sums<real_t>& student) {
  auto& memory = *shared<LayerMemory<real_t>>();
  const auto mixture = [&](real_t share, int64_t i) {
    return share * static_cast<real_t>(p.input_teacher[i]) + (1 - share) * static_cast<real_t>(p.input_student[i]);
  };
  const real_t share_teacher = p.alpha, share_student = 1 - p.beta;
  for (int64_t k = 0; k < c.rows(); k += kSlab) {
    fetch(p.weight_teacher, c.filters, c.rows(), first_filter, k, memory.weight_teacher);
    fetch(p.weight_student, c.filters, c.rows(), first_filter, k, memory.weight_student);
    gather(c, first_pixel, k, [&](int64_t i) { return mixture(share_teacher, i); }, memory.x_teacher);
    gather(c, first_pixel, k, [&](int64_t i) { return mixture(share_student, i); }, memory.x_student);
    barrier();
    multiply(memory.weight_teacher, memory.x_teacher, teacher);
    multiply(memory.weight_student, memory.x_student, student);
    barrier();
  }
}

// Convolves for teacher and student and leaves the masked residual and the sum of squares: neither a mixture nor a
// preactivation reaches memory.
template <typename scalar_t>
FSC_KERNEL(kTileThreads)
layer_kernel(LayerPointers<scalar_t> p, Convolution c) {
  using real_t = wide_t<scalar_t>;
  const int64_t first_pixel = block() * kTile, first_filter = block_y() * kTile;
  Sums<real_t> teacher, student;
  teacher.clear();
  student.clear();
  convolve_both(p, c, first_pixel, first_filter, teacher, student);
  double sum = 0;
  student.visit_with(teacher, [&](int row, int column, real_t& s, real_t& t) {
    const int64_t filter = first_filter + row, number = first_pixel + column;
    if (filter >= c.filters || number >= c.pixels()) return;
    if (p.bias_student) s += static_cast<real_t>(p.bias_student[filter]);
    if (p.bias_teacher) t += static_cast<real_t>(p.bias_teacher[filter]);
    const real_t d = difference(s, t, p.epilogue);
    sum += static_cast<double>(d) * static_cast<double>(d);
    const real_t masked = p.epilogue.relu && s <= 0 ? real_t(0) : d;
    p.residual[Pixel::of(c, number).output(c, filter)] = static_cast<scalar_t>(masked);
  });
  sum = block_sum(sum, shared<double>());
  if (thread() == 0) p.sums[block_y() * num_blocks() + block()] = sum;
}

template <typename scalar_t>
struct StoredPointers {
  const scalar_t* input;     // [N, C_in, H, W]
  const scalar_t* target;    // [N, C_out, H_out, W_out], activated already
  const scalar_t* shortcut;  // likewise, added before the activation, or null
  const scalar_t* share;     // [N], the weight of every image, or null
  const scalar_t* weight;    // [C_out, C_in kH kW]
  const scalar_t* bias;      // [C_out] or null
  scalar_t* residual;        // [N, C_out, H_out, W_out]
  double* sums;              // one a block
  bool relu;
};

template <typename real_t>
struct StoredMemory {
  Slab<real_t> weight, x;
};

// The same for the student alone, against a target that is stored.
template <typename scalar_t>
FSC_KERNEL(kTileThreads)
stored_kernel(StoredPointers<scalar_t> p, Convolution c) {
  using real_t = wide_t<scalar_t>;
  auto& memory = *shared<StoredMemory<real_t>>();
  const int64_t first_pixel = block() * kTile, first_filter = block_y() * kTile;
  Sums<real_t> student;
  student.clear();
  for (int64_t k = 0; k < c.rows(); k += kSlab) {
    fetch(p.weight, c.filters, c.rows(), first_filter, k, memory.weight);
    gather(c, first_pixel, k, [&](int64_t i) { return static_cast<real_t>(p.input[i]); }, memory.x);
    barrier();
    multiply(memory.weight, memory.x, student);
    barrier();
  }
  double sum = 0;
  student.visit([&](int row, int column, real_t& s) {
    const int64_t filter = first_filter + row, number = first_pixel + column;
    if (filter >= c.filters || number >= c.pixels()) return;
    const Pixel pixel = Pixel::of(c, number);
    const int64_t i = pixel.output(c, filter);
    if (p.bias) s += static_cast<real_t>(p.bias[filter]);
    if (p.shortcut) s += static_cast<real_t>(p.shortcut[i]);
    const real_t share = p.share ? static_cast<real_t>(p.share[pixel.image]) : real_t(1);
    const real_t d = difference(s, static_cast<real_t>(p.target[i]), {p.relu, false});
    sum += static_cast<double>(share) * static_cast<double>(d) * static_cast<double>(d);
    p.residual[i] = static_cast<scalar_t>(p.relu && s <= 0 ? real_t(0) : share * d);
  });
  sum = block_sum(sum, shared<double>());
  if (thread() == 0) p.sums[block_y() * num_blocks() + block()] = sum;
}

// ---- the gradient of a weight ----

// Pixels [first_pixel, first_pixel + 32) of 64 rows of the im2col matrix, by row, and of 64 filters' residuals.
template <typename scalar_t, typename real_t, typename Value>
FSC_DEVICE void gather_both(const Convolution& c, int64_t first_pixel, int64_t end, int64_t first_row,
                            int64_t first_filter, const Value& value, const scalar_t* residual, Slab<real_t>& rows,
                            Slab<real_t>& filters) {
  const int mine = thread() % kSlab;
  const bool inside = first_pixel + mine < end;
  const Pixel pixel = Pixel::of(c, inside ? first_pixel + mine : 0);
  for (int r = thread() / kSlab; r < kTile; r += kTileThreads / kSlab) {
    const int64_t offset = inside && first_row + r < c.rows() ? input_offset(c, pixel, first_row + r) : -1;
    rows[r][mine] = offset < 0 ? real_t(0) : value(offset);
    const bool used = inside && first_filter + r < c.filters;
    filters[r][mine] = used ? static_cast<real_t>(residual[pixel.output(c, first_filter + r)]) : real_t(0);
  }
}

template <typename scalar_t>
struct GradientPointers {
  const scalar_t* input_teacher;  // [N, C_in, H, W] or null
  const scalar_t* input_student;  // [N, C_in, H, W]
  const scalar_t* residual;       // [N, C_out, H_out, W_out]
  wide_t<scalar_t>* parts;        // [splits, C_out, C_in kH kW]
  double share_teacher;           // of the mixture that the student sees
  int64_t split_pixels;           // pixels that one split sums over
};

// Residual times im2col transposed: one tile of the gradient for one range of pixels.
template <typename scalar_t>
FSC_KERNEL(kTileThreads)
weight_gradient_kernel(GradientPointers<scalar_t> p, Convolution c, int64_t row_tiles) {
  using real_t = wide_t<scalar_t>;
  auto& memory = *shared<StoredMemory<real_t>>();
  const int64_t first_filter = block() / row_tiles * kTile, first_row = block() % row_tiles * kTile;
  const int64_t begin = block_y() * p.split_pixels;
  const int64_t end = begin + p.split_pixels < c.pixels() ? begin + p.split_pixels : c.pixels();
  const real_t share = p.share_teacher;
  const auto value = [&](int64_t i) {
    const auto own = static_cast<real_t>(p.input_student[i]);
    return p.input_teacher ? share * static_cast<real_t>(p.input_teacher[i]) + (1 - share) * own : own;
  };
  Sums<real_t> sums;
  sums.clear();
  for (int64_t pixel = begin; pixel < end; pixel += kSlab) {
    gather_both(c, pixel, end, first_row, first_filter, value, p.residual, memory.x, memory.weight);
    barrier();
    multiply(memory.weight, memory.x, sums);
    barrier();
  }
  real_t* part = p.parts + block_y() * c.filters * c.rows();
  sums.visit([&](int row, int column, real_t& sum) {
    const int64_t filter = first_filter + row, k = first_row + column;
    if (filter < c.filters && k < c.rows()) part[filter * c.rows() + k] = sum;
  });
}

// gradient = scale * sum of the splits in their order, times a factor that only the device knows where there is one.
template <typename scalar_t>
FSC_KERNEL(kMixThreads)
add_splits_kernel(const wide_t<scalar_t>* parts, int64_t splits, int64_t numel, double scale, const scalar_t* factor,
                  scalar_t* gradient) {
  using real_t = wide_t<scalar_t>;
  const real_t by = static_cast<real_t>(scale) * (factor ? static_cast<real_t>(*factor) : real_t(1));
  stride_over<1>(numel, [&](int64_t i, int) {
    real_t sum = 0;
    for (int64_t s = 0; s < splits; ++s) sum += parts[s * numel + i];
    gradient[i] = static_cast<scalar_t>(by * sum);
  });
}

}  // namespace fsc::device
