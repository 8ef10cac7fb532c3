// Loops on moments that run all their steps in one launch: where they fit, and their launch.
#pragma once

#include "cuda/solve_resident.cuh"
#include "cuda/solve_resident_moments_kernels.cuh"

namespace fsc {

// Columns of the Hessian that a block may hold where it cannot hold all, the best first: few enough that many blocks
// share the work, enough that the tiles of a product are full.
constexpr int64_t kSlabWidths[] = {32, 64, 128, 16};

// How the weight is cut into rows of 16 and slabs of columns.
template <typename scalar_t>
struct MomentsPlan {
  int64_t rows, columns, groups;
  int64_t slab = 0;  // none: the steps do not fit into one launch
  int64_t slabs = 0;
  int parts = 0;
  Grid grid{};

  MomentsPlan(const Loop& loop, int64_t all_rows, int64_t all_columns)
      : rows(all_rows), columns(all_columns), groups(ceil_div(rows, device::kWarpRows)) {
    if (!steps_stand_alone(loop) || columns > kMostBlocks || rows > kMostBlocks) return;
    if (cut(ceil_div(columns, device::kMomentColumns) * device::kMomentColumns)) return;
    for (const int64_t width : kSlabWidths) {
      if (cut(width)) return;
    }
    slab = 0;
  }

  at::Tensor run(const Loop& loop, const at::Tensor& hessian, const at::Tensor& target, double scale) const {
    using real_t = device::wide_t<scalar_t>;
    const ResidentLoop resident(loop, grid.blocks, groups);
    at::Tensor exchange;
    if (slabs > 1) {
      exchange = at::empty({2, rows, columns}, target.options().dtype(c10::CppTypeToScalarType<real_t>::value));
    }
    const device::ResidentMoments<scalar_t> p{loop.weight.data_ptr<scalar_t>(),
                                              resident.template state<scalar_t>(0),
                                              resident.template state<scalar_t>(1),
                                              hessian.const_data_ptr<scalar_t>(),
                                              target.const_data_ptr<scalar_t>(),
                                              slabs > 1 ? exchange.data_ptr<real_t>() : nullptr,
                                              resident.counters(),
                                              resident.template many<real_t>(scale),
                                              static_cast<int>(rows),
                                              static_cast<int>(columns),
                                              static_cast<int>(slab),
                                              static_cast<int>(slabs),
                                              parts};
    const auto kernel = device::resident_moments_kernel<scalar_t>;
    slabs > 1 ? launch_together(grid, kernel, p) : launch<true>(grid, kernel, p);
    return resident.finish(scale);
  }

 private:
  // Blocks that hold all columns wait for no others, so that any number of them will do.
  bool cut(int64_t width) {
    using Memory = device::MomentsMemory<device::wide_t<scalar_t>>;
    slab = width;
    slabs = ceil_div(columns, width);
    parts = device::parts_of(static_cast<int>(width / device::kMomentColumns), static_cast<int>(columns),
                             device::kMomentWarps);
    grid = {groups * slabs, device::kMomentThreads, Memory::bytes(columns, width, parts)};
    if (slabs == 1) return grid.shared_bytes <= most_shared_bytes();
    return fits_together(grid, device::resident_moments_kernel<scalar_t>);
  }
};

}  // namespace fsc
