// Loops on the images of a small layer that run all their steps in one launch: where they fit, and their launch.
#pragma once

#include <algorithm>

#include "cuda/solve_resident.cuh"
#include "cuda/solve_resident_images_kernels.cuh"
#include "solve_operators.h"

namespace fsc {

// How the images are cut into slices: into as many as there are multiprocessors for each group of filters.
template <typename scalar_t>
struct ImagesPlan {
  using real_t = device::wide_t<scalar_t>;
  device::Slices slices{};
  int64_t groups = 0;
  Grid grid{};
  bool fits = false;

  ImagesPlan(const Loop& loop, const Images& all, int64_t batch_size) {
    const at::IntArrayRef in = all.input.sizes(), out = all.target.sizes(), window = loop.weight.sizes();
    const int64_t padded = in[0] * in[1] * (in[2] + 2 * all.conv.padding[0]) * (in[3] + 2 * all.conv.padding[1]);
    if (std::max({padded, all.target.numel(), loop.weight.numel()}) > kMostNumbers || all.target.numel() == 0 ||
        !steps_stand_alone(loop) || batch_size < in[0])
      return;
    groups = ceil_div(out[1], device::kWarpRows);
    const auto number = [](int64_t value) { return static_cast<int>(value); };
    slices = {number(in[0]),  number(in[1]),  number(in[2]),     number(in[3]),    number(out[1]),
              number(out[2]), number(out[3]), number(window[2]), number(window[3])};
    for (int d = 0; d < 2; ++d) {
      slices.stride[d] = number(all.conv.stride[d]);
      slices.padding[d] = number(all.conv.padding[d]);
      slices.dilation[d] = number(all.conv.dilation[d]);
    }
    slices.has_shortcut = all.shortcut.has_value();
    cut(std::max<int64_t>(multiprocessors() / groups, 1));
    grid = {groups * slices.splits, device::kImageThreads, bytes()};
    fits = fits_together(grid, device::resident_images_kernel<scalar_t>);
  }

  at::Tensor run(const Loop& loop, const Images& all, double scale) const {
    const ResidentLoop resident(loop, grid.blocks, groups);
    const double per_image = scale / static_cast<double>(slices.images);
    const auto options = resident.steps.options().dtype(c10::CppTypeToScalarType<real_t>::value);
    const at::Tensor parts = at::empty({grid.blocks, device::kWarpRows, slices.depth()}, options);
    const device::ResidentImages<scalar_t> p{all.input.const_data_ptr<scalar_t>(),
                                             all.target.const_data_ptr<scalar_t>(),
                                             pointer<scalar_t>(all.shortcut),
                                             pointer<scalar_t>(all.image_weight),
                                             pointer<scalar_t>(all.bias),
                                             loop.weight.data_ptr<scalar_t>(),
                                             resident.template state<scalar_t>(0),
                                             resident.template state<scalar_t>(1),
                                             parts.data_ptr<real_t>(),
                                             resident.counters(),
                                             resident.template many<real_t>(per_image),
                                             slices,
                                             device::ImagesLayout(slices),
                                             all.relu};
    launch_together(grid, device::resident_images_kernel<scalar_t>, p);
    return resident.finish(per_image);
  }

 private:
  // Beyond so many inputs, outputs or weights no GPU's shared memory holds them all, and their layout fits into ints.
  static constexpr int64_t kMostNumbers = 1 << 23;

  int64_t bytes() const { return device::ImagesLayout(slices).bytes<real_t>(); }

  // Into `most` slices or fewer: ranges of whole images, or bands of rows that give each warp's tile its pixels.
  void cut(int64_t most) {
    const int64_t images = slices.images, plane = static_cast<int64_t>(slices.out_height) * slices.out_width;
    const int64_t bands = std::min(most / images, plane / device::kImageColumns);
    slices.slice_images = static_cast<int>(ceil_div(images, most));
    slices.slice_rows = static_cast<int>(ceil_div(slices.out_height, std::clamp<int64_t>(bands, 1, slices.out_height)));
    slices.splits = static_cast<int>(ceil_div(images, slices.slice_images)) * slices.bands();
    const auto pieces = [](int columns) { return static_cast<int>(ceil_div(columns, device::kImageColumns)); };
    slices.parts = device::parts_of(pieces(slices.pixels()), slices.depth(), device::kImageWarps);
    slices.gradient_parts = device::parts_of(pieces(slices.depth()), slices.pixels(), device::kImageWarps);
    // Better idle warps than a launch a step: what ends last has to become shorter.
    while (bytes() > most_shared_bytes()) {
      const device::ImagesLayout layout(slices);
      int& ranges = layout.products_end > layout.gradient_end ? slices.parts : slices.gradient_parts;
      if (ranges == 1) break;
      --ranges;
    }
  }
};

}  // namespace fsc
