// The tiles of the Gram matrices, and how a tile's sums come to them: one grid over the lower half of
// [S; T] [S; T]^T, where the student's rows stand above the teacher's, holds all three.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/tile.cuh"

namespace fsc::device {

struct GramTile {
  int row, column;  // its first entry
};

// Lines of tiles from first_line on; each ends at the diagonal or with last_column, whichever comes first.
struct GramTiles {
  int64_t first_line, last_column;

  // Tiles of the first `lines` lines of the whole lower half.
  static constexpr int64_t triangle(int64_t lines) { return lines * (lines + 1) / 2; }

  FSC_DEVICE GramTile at(int64_t b) const {
    const int64_t across = last_column + 1;
    b += triangle(first_line);
    if (b >= triangle(across)) {
      b -= triangle(across);
      return {static_cast<int>((across + b / across) * kTile), static_cast<int>(b % across * kTile)};
    }
    // The root may be off by one.
    auto r = static_cast<int64_t>((std::sqrt(8.0 * static_cast<double>(b) + 1.0) - 1.0) / 2.0);
    while (triangle(r) > b) --r;
    while (triangle(r + 1) <= b) ++r;
    return {static_cast<int>(r * kTile), static_cast<int>((b - triangle(r)) * kTile)};
  }
};

// A Gram matrix in float32 or float64, contiguous; null where not asked for.
struct GramMatrix {
  void* data;
  bool is_double;

  FSC_DEVICE double get(int64_t i) const {
    return is_double ? static_cast<const double*>(data)[i] : static_cast<double>(static_cast<const float*>(data)[i]);
  }
  FSC_DEVICE void set(int64_t i, double value) const {
    if (is_double) {
      static_cast<double*>(data)[i] = value;
    } else {
      static_cast<float*>(data)[i] = static_cast<float>(value);
    }
  }
};

// From rows that are counted tap by tap, in each channel by channel, to their places in a Gram matrix.
struct Turn {
  int taps;  // one: nothing is turned
  int channels;
  uint32_t inverse;  // 2^32 / channels, rounded up

  // The quotient is right while channels * channels * taps is below 2^32.
  FSC_DEVICE int place_of(int r) const {
    if (taps == 1 || r >= channels * taps) return r;
    const int tap = static_cast<int>(static_cast<uint64_t>(r) * inverse >> 32);
    return (r - tap * channels) * taps + tap;
  }
};

// What entries of the lower half of [S; T] [S; T]^T are added to.
struct GramTargets {
  GramMatrix student, cross, teacher;  // [rows_S, rows_S], [rows_T, rows_S], [rows_T, rows_T]
  int student_rows, teacher_rows, teacher_begin;
  Turn student_turn, teacher_turn;

  constexpr int all_rows() const { return teacher_begin + teacher_rows; }

  // Value by value: a parameter of a kernel whose address is taken would be copied to local memory.
  FSC_DEVICE Turn turned(bool of_teacher) const {
    return {of_teacher ? teacher_turn.taps : student_turn.taps,
            of_teacher ? teacher_turn.channels : student_turn.channels,
            of_teacher ? teacher_turn.inverse : student_turn.inverse};
  }

  // Calls visit(matrix, index of the entry, index of its mirror image or -1) where the entry was asked for.
  template <typename Visit>
  FSC_DEVICE void find(int row, int column, const Visit& visit) const {
    if (column > row) return;
    const bool below = row >= teacher_begin, right = column >= teacher_begin;
    const int r = turned(below).place_of(row - (below ? teacher_begin : 0));
    const int c = turned(right).place_of(column - (right ? teacher_begin : 0));
    const int height = below ? teacher_rows : student_rows, width = right ? teacher_rows : student_rows;
    const GramMatrix matrix{below ? (right ? teacher.data : cross.data) : student.data,
                            below ? (right ? teacher.is_double : cross.is_double) : student.is_double};
    if (matrix.data == nullptr || r >= height || c >= width) return;
    const bool symmetric = below == right;
    visit(matrix, static_cast<int64_t>(r) * width + c, symmetric ? static_cast<int64_t>(c) * width + r : -1);
  }

  // Whether an entry may be asked for; or any of a square that begins there, on lines of such squares.
  FSC_DEVICE bool wants(int row, int column) const { return column <= row && row < all_rows(); }
};

// Lines of sums in shared memory: odd, so that neither rows nor columns of it are in one bank.
constexpr int kPieceLine = kTile + 1;

// Adds kRows rows of a tile, [kRows, kPieceLine] from (row, column) on, which they are overwritten by: first line by
// line, then mirrored, both with neighbouring threads at neighbouring entries.
template <int kRows>
FSC_DEVICE void add_piece(double* piece, const GramTargets& targets, int row, int column) {
  for (int i = thread(); i < kRows * kTile; i += num_threads()) {
    double& sum = piece[i / kTile * kPieceLine + i % kTile];
    targets.find(row + i / kTile, column + i % kTile, [&](const GramMatrix& matrix, int64_t entry, int64_t) {
      sum += matrix.get(entry);
      matrix.set(entry, sum);
    });
  }
  barrier();
  for (int i = thread(); i < kRows * kTile; i += num_threads()) {
    const int r = i % kRows, c = i / kRows;
    targets.find(row + r, column + c, [&](const GramMatrix& matrix, int64_t, int64_t mirror) {
      if (mirror >= 0) matrix.set(mirror, piece[r * kPieceLine + c]);
    });
  }
}

}  // namespace fsc::device
