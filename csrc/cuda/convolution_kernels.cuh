// Convolutions as products of tiles: a layer's outputs with what follows them, and the gradient of its weight. No ATen
// here.
#pragma once

#include <cstdint>

#include "cuda/convolution_slabs.cuh"
#include "cuda/cross_distill_kernels.cuh"
#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tile.cuh"

namespace fsc::device {

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
  struct Stage {
    Slab<real_t> weight_teacher, weight_student, x_teacher, x_student;
  } stages[kStages];
};

// The products of both networks' weights with the mixtures of their inputs, which are mixed as they are loaded.
template <typename scalar_t, typename real_t>
FSC_DEVICE void convolve_both(const LayerPointers<scalar_t>& p, const Convolution& c, int64_t first_pixel,
                              int64_t first_filter, Sums<real_t>& teacher, Sums<real_t>& student) {
  const Mixture<scalar_t> to_teacher{p.input_teacher, p.input_student, static_cast<real_t>(p.alpha)};
  const Mixture<scalar_t> to_student{p.input_teacher, p.input_student, static_cast<real_t>(1 - p.beta)};
  pipeline(
      shared<LayerMemory<real_t>>()->stages, slabs_of<real_t>(c.rows()),
      [&](int64_t s, auto& stage) {
        const int64_t k = s * kSlab<real_t>;
        fetch(p.weight_teacher, c.filters, c.rows(), first_filter, k, stage.weight_teacher);
        fetch(p.weight_student, c.filters, c.rows(), first_filter, k, stage.weight_student);
        gather(c, first_pixel, k, to_teacher, stage.x_teacher);
        gather(c, first_pixel, k, to_student, stage.x_student);
      },
      [&](const auto& stage) {
        multiply(stage.weight_teacher, stage.x_teacher, teacher);
        multiply(stage.weight_student, stage.x_student, student);
      });
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
    const auto compared = compare(s, t, p.epilogue);
    sum += compared.square();
    p.residual[Pixel::of(c, number).output(c, filter)] = static_cast<scalar_t>(compared.residual);
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
  struct Stage {
    Slab<real_t> weight, x;
  } stages[kStages];
};

// The same for the student alone, against a target that is stored.
template <typename scalar_t>
FSC_KERNEL(kTileThreads, kTileBlocks)
stored_kernel(StoredPointers<scalar_t> p, Convolution c) {
  using real_t = wide_t<scalar_t>;
  const int64_t first_pixel = block() * kTile, first_filter = block_y() * kTile;
  Sums<real_t> student;
  student.clear();
  pipeline(
      shared<StoredMemory<real_t>>()->stages, slabs_of<real_t>(c.rows()),
      [&](int64_t s, auto& stage) {
        const int64_t k = s * kSlab<real_t>;
        fetch(p.weight, c.filters, c.rows(), first_filter, k, stage.weight);
        gather(c, first_pixel, k, Plain<scalar_t>{p.input}, stage.x);
      },
      [&](const auto& stage) { multiply<kIsTf32<scalar_t>>(stage.weight, stage.x, student); });
  double sum = 0;
  student.visit([&](int row, int column, real_t& s) {
    const int64_t filter = first_filter + row, number = first_pixel + column;
    if (filter >= c.filters || number >= c.pixels()) return;
    const Pixel pixel = Pixel::of(c, number);
    const int64_t i = pixel.output(c, filter);
    if (p.bias) s += static_cast<real_t>(p.bias[filter]);
    if (p.shortcut) s += static_cast<real_t>(p.shortcut[i]);
    const real_t share = p.share ? static_cast<real_t>(p.share[pixel.image]) : real_t(1);
    const auto compared = compare(s, static_cast<real_t>(p.target[i]), {p.relu, false});
    sum += static_cast<double>(share) * compared.square();
    p.residual[i] = static_cast<scalar_t>(share * compared.residual);
  });
  sum = block_sum(sum, shared<double>());
  if (thread() == 0) p.sums[block_y() * num_blocks() + block()] = sum;
}

// ---- the gradient of a weight ----

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
  const int64_t first_filter = block() / row_tiles * kTile, first_row = block() % row_tiles * kTile;
  const int64_t begin = block_y() * p.split_pixels;
  const int64_t end = begin + p.split_pixels < c.pixels() ? begin + p.split_pixels : c.pixels();
  const Plain<scalar_t> student{p.input_student};
  const Mixture<scalar_t> mixture{p.input_teacher, p.input_student, static_cast<real_t>(p.share_teacher)};
  Sums<real_t> sums;
  sums.clear();
  pipeline(
      shared<StoredMemory<real_t>>()->stages, slabs_of<real_t>(end - begin),
      [&](int64_t s, auto& stage) {
        const auto source = [&](real_t* to, int64_t i) { p.input_teacher ? mixture(to, i) : student(to, i); };
        gather_both(c, begin + s * kSlab<real_t>, end, first_row, first_filter, source, p.residual, stage.x,
                    stage.weight);
      },
      [&](const auto& stage) { multiply(stage.weight, stage.x, sums); });
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
