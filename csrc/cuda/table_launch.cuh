// Launches over tables, as few as hold all rows.
#pragma once

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <limits>

#include "cuda/launch.cuh"
#include "cuda/table.cuh"

namespace fsc {

// Calls `launch(table, blocks)` for all rows in turn; `blocks_of(row)` is 0 for what is empty.
template <int capacity, typename Row, typename BlocksOf, typename Launch>
void launch_tables(c10::ArrayRef<Row> rows, const BlocksOf& blocks_of, const Launch& launch) {
  static_assert(capacity * kMostBlocks < std::numeric_limits<int32_t>::max());
  Table<Row, capacity> table{};
  int32_t blocks = 0;
  const auto flush = [&] {
    if (table.count > 0) launch(table, blocks);
    table.count = blocks = 0;
  };
  for (const Row& row : rows) {
    const int64_t own = blocks_of(row);
    if (own == 0) continue;
    if (table.count == capacity) flush();
    table.rows[table.count] = row;
    blocks += static_cast<int32_t>(own);
    table.ends[table.count++] = blocks;
  }
  flush();
}

}  // namespace fsc
