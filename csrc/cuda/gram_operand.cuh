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

// Values from line to line: of a slab whose lines are rows, and of one that is turned, whose lines are columns.
template <typename real_t>
constexpr int kStraightLine = sizeof(Slab<real_t>) / kTile / sizeof(real_t);
constexpr int kTurnedLine = kTile + 8;
static_assert(sizeof(Slab<float>) == kSlab<float> * kTurnedLine * sizeof(float));
static_assert(sizeof(Slab<double>) == kSlab<double> * kTurnedLine * sizeof(double));

// The teacher's rows begin at a multiple of it below the student's, so that a thread gathers rows of one network.
constexpr int kRowsOfNetwork = 16;

// What a thread copies at a time.
enum class GramCopies {
  kValues,    // one value
  kPixels,    // neighbouring pixels of a channel, no window
  kChannels,  // neighbouring channels of a pixel: slabs are turned, a line holds all rows of a column
};

// Values of a copy that is wider than one: 16 bytes of a slab.
template <typename scalar_t>
constexpr int kWide = 16 / sizeof(wide_t<scalar_t>);

// The rows of both networks, one below the other.
template <typename scalar_t, typename index_t>
struct Stacked {
  Features<scalar_t, index_t> student, teacher;
  int teacher_begin;

  template <bool kTurned>
  FSC_DEVICE GramRow<index_t> row(const Window& window, int r) const {
    if (r < teacher_begin) return row_at<kTurned>(student, window, r);
    return row_at<kTurned>(teacher, window, r - teacher_begin);
  }
};

// Which network a thread's rows [row, row + count) are of.
template <typename scalar_t>
struct OwnNetwork {
  const scalar_t* data;
  bool is_teacher;
  int ones;  // which of the rows is one of ones, or -1

  template <typename index_t>
  FSC_DEVICE OwnNetwork(const Stacked<scalar_t, index_t>& all, int row, int count) {
    is_teacher = row >= all.teacher_begin;
    data = is_teacher ? all.teacher.data : all.student.data;
    const bool has_ones = is_teacher ? all.teacher.ones : all.student.ones;
    ones = has_ones ? (is_teacher ? all.teacher_begin + all.teacher.count : all.student.count) - row : -1;
    if (ones >= count) ones = -1;
  }

  template <typename index_t>
  FSC_DEVICE index_t here(const Column<index_t>& column) const {
    return is_teacher ? column.teacher : column.student;
  }
};

template <typename scalar_t, typename index_t, GramCopies kCopies>
struct Operand {
  using real_t = wide_t<scalar_t>;
  static constexpr int kWidth = kCopies == GramCopies::kValues ? 1 : kWide<scalar_t>;
  static constexpr int kThreads = kSlab<real_t> / kWidth;        // along a line
  static constexpr int kRows = kTile * kThreads / kTileThreads;  // of a thread
  static constexpr int kColumns = 1;                             // that it stands at for a slab
  static constexpr int kLine = sizeof(Slab<real_t>) / kTile / sizeof(real_t);
  static_assert(kRowsOfNetwork % kRows == 0);

  const GramRow<index_t>* rows;  // of this thread, in shared memory
  OwnNetwork<scalar_t> own;
  // Half precision waits here until it is put; the others are copied to the slab.
  scalar_t values[kRows][kWidth];

  static FSC_DEVICE int first_row() { return thread() / kThreads * kRows; }
  static FSC_DEVICE int first_column() { return thread() % kThreads * kWidth; }

  FSC_DEVICE Operand(const Stacked<scalar_t, index_t>& all, const GramRow<index_t>* table, int tile_row)
      : rows(table + first_row()), own(all, tile_row + first_row(), kRows) {}

  FSC_DEVICE void fill(const Column<index_t>& column, int, Slab<real_t>& slab) {
    real_t* to = &slab[first_row()][first_column()];
    if (own.ones < 0) {
      copy_rows<false>(column, to);
    } else {
      copy_rows<true>(column, to);
      if constexpr (std::is_same_v<scalar_t, real_t>) {
        for (int c = 0; c < kWidth; ++c) to[own.ones * kLine + c] = column.real ? 1 : 0;
      }
    }
  }

  // kSome: without the row of ones.
  template <bool kSome>
  FSC_DEVICE void copy_rows(const Column<index_t>& column, real_t* to) {
    const index_t here = own.here(column);
    // All are read before the first copy: behind a load from shared memory sm_90 makes it wait.
    GramRow<index_t> all[kRows];
    FSC_UNROLL
    for (int i = 0; i < kRows; ++i) all[i] = rows[i];
    FSC_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const bool inside = column.holds(all[i].shift);
      const scalar_t* from = own.data + (here + all[i].offset);
      if constexpr (std::is_same_v<scalar_t, real_t>) {
        if (!kSome || i != own.ones) copy_async<kWidth * sizeof(real_t)>(to + i * kLine, from, inside);
      } else {
        load<kWidth>(from, inside ? kWidth : 0, values[i]);
        // Chosen value by value: a store to values[own.ones] would move all of them to local memory.
        const bool is_one = kSome && i == own.ones;
        FSC_UNROLL
        for (int c = 0; c < kWidth; ++c) values[i][c] = is_one ? scalar_t(column.real ? 1.0f : 0.0f) : values[i][c];
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
};

// Slabs are turned: rows of a thread are neighbouring channels, its columns are some of the slab's.
template <typename scalar_t, typename index_t>
struct Operand<scalar_t, index_t, GramCopies::kChannels> {
  using real_t = wide_t<scalar_t>;
  static constexpr int kWidth = kWide<scalar_t>;
  static constexpr int kThreads = kTile / kWidth;
  static constexpr int kColumns = kSlab<real_t> * kThreads / kTileThreads;

  GramRow<index_t> row;  // of the first of its rows
  OwnNetwork<scalar_t> own;
  scalar_t values[kColumns][kWidth];

  static FSC_DEVICE int first_row() { return thread() % kThreads * kWidth; }
  static FSC_DEVICE int first_column() { return thread() / kThreads; }

  FSC_DEVICE Operand(const Stacked<scalar_t, index_t>& all, const GramRow<index_t>* table, int tile_row)
      : row(table[first_row()]), own(all, tile_row + first_row(), kWidth) {}

  static FSC_DEVICE real_t* place_of(int c, Slab<real_t>& slab) {
    const int column = first_column() + c * (kTileThreads / kThreads);
    return &slab[0][0] + column * kTurnedLine + first_row();
  }

  // Column c of this thread.
  FSC_DEVICE void fill(const Column<index_t>& column, int c, Slab<real_t>& slab) {
    const bool inside = column.holds(row.shift);
    const scalar_t* from = own.data + (own.here(column) + row.offset);
    const int one = column.real ? own.ones : -1;
    if constexpr (!std::is_same_v<scalar_t, real_t>) {
      load<kWidth>(from, inside ? kWidth : 0, values[c]);
      if (one >= 0) values[c][0] = static_cast<scalar_t>(1.0f);
    } else if (own.ones < 0) {
      copy_async<kWidth * sizeof(real_t)>(place_of(c, slab), from, inside);
    } else {
      for (int i = 0; i < kWidth; ++i) place_of(c, slab)[i] = i == one ? 1 : 0;
    }
  }

  FSC_DEVICE void keep(Slab<real_t>& slab) {
    if constexpr (!std::is_same_v<scalar_t, real_t>) {
      FSC_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        FSC_UNROLL
        for (int i = 0; i < kWidth; ++i) place_of(c, slab)[i] = static_cast<real_t>(values[c][i]);
      }
    }
  }
};

}  // namespace fsc::device
