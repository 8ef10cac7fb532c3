// Many tensors in one launch: a table of what a kernel has to know of each, passed as a kernel parameter, so that no
// device memory is needed for it. Blocks find their row by the cumulated numbers of blocks.
#pragma once

#include <cstdint>

#include "cuda/vector.cuh"

namespace fsc {

// What kernels of every architecture may take as parameters.
constexpr int kParameterBytes = 4096;

template <typename Row, int capacity>
struct Table {
  Row rows[capacity];
  int32_t ends[capacity];  // row r has the blocks from ends[r - 1], or 0, up to ends[r]
  int32_t count;
};

namespace device {

// The row that a block works on, and which part of its blocks it is.
struct Place {
  int row;
  Share share;
};

template <typename Row, int capacity>
FSC_DEVICE Place place_in(const Table<Row, capacity>& table) {
  if constexpr (capacity == 1) {
    return {0, {block(), num_blocks()}};
  } else {
    int low = 0, high = table.count - 1;  // the first row that ends behind this block is in [low, high]
    while (low < high) {
      const int middle = (low + high) / 2;
      if (table.ends[middle] > block()) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const int64_t begin = low == 0 ? 0 : table.ends[low - 1];
    return {low, {block() - begin, table.ends[low] - begin}};
  }
}

}  // namespace device
}  // namespace fsc
