// Products of 16 rows by the warps of a block, from operands that stay in shared memory in any layout: tensor cores in
// 3xTF32 for float32 and narrower types, plain multiply-adds for float64.
#pragma once

#include "cuda/tensor_cores.cuh"

namespace fsc::device {

constexpr int kWarpRows = 16;
constexpr int kWarpDepth = 32;  // what tensor cores sum up at a time

// The element that entry e of a thread's sums belongs to, within 16 x 8.
FSC_DEVICE int entry_row(int e) { return thread() % kWarp / 4 + e / 2 * 8; }
FSC_DEVICE int entry_column(int e) { return thread() % 4 * 2 + e % 2; }

// sums [16, 8 tiles] += left(row, k) right(k, column) over k in [begin, end), a multiple of 8 of them.
template <int tiles, typename Left, typename Right>
FSC_DEVICE void multiply_warp(const Left& left, const Right& right, int begin, int end, float (&sums)[1][tiles][4]) {
  for (int first = begin; first < end; first += kWarpDepth) {
    multiply_fragments<false>(left, right, first, first + kWarpDepth < end ? first + kWarpDepth : end, sums);
  }
}

template <int tiles, typename Left, typename Right>
FSC_DEVICE void multiply_warp(const Left& left, const Right& right, int begin, int end, double (&sums)[1][tiles][4]) {
  for (int k = begin; k < end; ++k) {
    FSC_UNROLL
    for (int i = 0; i < tiles * 4; ++i) {
      const int row = entry_row(i % 4), column = i / 4 * 8 + entry_column(i % 4);
      sums[0][i / 4][i % 4] = multiply_add(left(row, k), right(k, column), sums[0][i / 4][i % 4]);
    }
  }
}

// Into how many ranges a depth is cut, so that a product of few pieces of columns keeps all warps busy.
constexpr int parts_of(int pieces, int depth, int warps) {
  const int idle = pieces < warps ? warps / pieces : 1, most = (depth + 7) / 8;
  return idle < most ? idle : most;
}

// The product [16, columns] over `depth`, a multiple of 8, in `parts` ranges: calls visit(part, row, column, sum) for
// every element of [parts, 16, columns up to a multiple of 8 tiles]. right() must bear to be read as far as that.
template <int tiles, typename real_t, typename Left, typename Right, typename Visit>
FSC_DEVICE void multiply_by_warps(int columns, int depth, int parts, const Left& left, const Right& right,
                                  const Visit& visit) {
  const int pieces = (columns + tiles * 8 - 1) / (tiles * 8), range = (depth / 8 + parts - 1) / parts * 8;
  for (int i = thread() / kWarp; i < pieces * parts; i += num_threads() / kWarp) {
    const int first = i % pieces * tiles * 8, part = i / pieces, begin = part * range;
    const auto shifted = [&](int k, int column) { return right(k, first + column); };
    real_t sums[1][tiles][4] = {};
    multiply_warp<tiles>(left, shifted, begin, begin + range < depth ? begin + range : depth, sums);
    FSC_UNROLL
    for (int e = 0; e < tiles * 4; ++e) {
      visit(part, entry_row(e % 4), first + e / 4 * 8 + entry_column(e % 4), sums[0][e / 4][e % 4]);
    }
  }
}

}  // namespace fsc::device
