// One operand of a tile of the Gram matrices: 64 rows of im2col, gathered slab by slab into shared memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/device.cuh"
#include "cuda/gram_columns.cuh"
#include "cuda/pipeline.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tile.cuh"
#include "cuda/vector.cuh"

namespace fsc::device {

// The teacher's rows begin at a multiple of it below the student's, so that a thread gathers rows of one network.
constexpr int kRowsOfNetwork = 16;

// Threads along a line of a slab, each with kWidth columns at a time.
template <typename real_t, int kWidth>
constexpr int kLineThreads = kSlab<real_t> / kWidth;

// The rows of both networks, one below the other.
template <typename scalar_t, typename index_t>
struct Stacked {
  Features<scalar_t, index_t> student, teacher;
  int teacher_begin;

  FSC_DEVICE Row<index_t> row(const Window& window, int r) const {
    return r < teacher_begin ? row_at(student, window, r) : row_at(teacher, window, r - teacher_begin);
  }
};

template <typename scalar_t, typename index_t, int kWidth>
struct Operand {
  using real_t = wide_t<scalar_t>;
  static constexpr int kThreads = kLineThreads<real_t, kWidth>;
  static constexpr int kRows = kTile * kThreads / kTileThreads;  // of a thread
  static constexpr int kLine = sizeof(Slab<real_t>) / kTile / sizeof(real_t);
  static_assert(kRowsOfNetwork % kRows == 0);

  const Row<index_t>* rows;  // of this thread, in shared memory
  const scalar_t* data;
  bool is_teacher;
  int ones;  // which of its rows is one of ones, or none
  // Half precision waits here until it is put; the others are copied to the slab.
  scalar_t values[kRows][kWidth];

  static FSC_DEVICE int first_row() { return thread() / kThreads * kRows; }
  static FSC_DEVICE int first_column() { return thread() % kThreads * kWidth; }

  FSC_DEVICE Operand(const Stacked<scalar_t, index_t>& all, const Row<index_t>* table, int tile_row)
      : rows(table + first_row()) {
    const int row = tile_row + first_row();
    is_teacher = row >= all.teacher_begin;
    data = is_teacher ? all.teacher.data : all.student.data;
    const bool has_ones = is_teacher ? all.teacher.ones : all.student.ones;
    ones = has_ones ? (is_teacher ? all.teacher_begin + all.teacher.count : all.student.count) - row : -1;
    if (ones >= kRows) ones = -1;
  }

  FSC_DEVICE void fill(const Column<index_t>& column, Slab<real_t>& slab) {
    real_t* to = &slab[first_row()][first_column()];
    if (ones < 0) {
      copy_rows<false>(column, to);
    } else {
      copy_rows<true>(column, to);
      if constexpr (std::is_same_v<scalar_t, real_t>) {
        for (int c = 0; c < kWidth; ++c) to[ones * kLine + c] = column.real ? 1 : 0;
      }
    }
  }

  // kSome: without the row of ones.
  template <bool kSome>
  FSC_DEVICE void copy_rows(const Column<index_t>& column, real_t* to) {
    const index_t here = is_teacher ? column.teacher : column.student;
    // All are read before the first copy: behind a load from shared memory sm_90 makes it wait.
    Row<index_t> own[kRows];
    FSC_UNROLL
    for (int i = 0; i < kRows; ++i) own[i] = rows[i];
    FSC_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const bool inside = column.holds(own[i].shift);
      const scalar_t* from = data + (here + own[i].offset);
      if constexpr (std::is_same_v<scalar_t, real_t>) {
        if (!kSome || i != ones) copy_async<kWidth * sizeof(real_t)>(to + i * kLine, from, inside);
      } else {
        load<kWidth>(from, inside ? kWidth : 0, values[i]);
        if (kSome && i == ones) fill_with(values[i], column.real);
      }
    }
  }

  FSC_DEVICE void keep(Slab<real_t>& slab) {
    if constexpr (!std::is_same_v<scalar_t, real_t>) {
      real_t* to = &slab[first_row()][first_column()];
      FSC_UNROLL
      for (int i = 0; i < kRows; ++i) {
        FSC_UNROLL
        for (int c = 0; c < kWidth; ++c) to[i * kLine + c] = static_cast<real_t>(values[i][c]);
      }
    }
  }

  static FSC_DEVICE void fill_with(scalar_t (&some)[kWidth], bool one) {
    FSC_UNROLL
    for (int c = 0; c < kWidth; ++c) some[c] = static_cast<scalar_t>(one ? 1.0f : 0.0f);
  }
};

}  // namespace fsc::device
