// Passes over memory, 16 bytes at a time where the pointers allow it.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"

namespace fsc::device {

template <typename T, int width>
struct alignas(sizeof(T) * width) Vector {
  T values[width];
};

// Elements from `count` on become zero, so that all of a vector can be worked on without branches.
template <int width, typename T>
FSC_DEVICE void load(const T* from, int count, T (&values)[width]) {
  if (count == width) {
    const auto vector = *reinterpret_cast<const Vector<T, width>*>(from);
    FSC_UNROLL
    for (int i = 0; i < width; ++i) values[i] = vector.values[i];
  } else {
    FSC_UNROLL
    for (int i = 0; i < width; ++i) values[i] = i < count ? from[i] : T(0);
  }
}

template <int width, typename T>
FSC_DEVICE void store(T* to, int count, const T (&values)[width]) {
  if (count == width) {
    Vector<T, width> vector;
    FSC_UNROLL
    for (int i = 0; i < width; ++i) vector.values[i] = values[i];
    *reinterpret_cast<Vector<T, width>*>(to) = vector;
  } else {
    FSC_UNROLL
    for (int i = 0; i < width; ++i) {
      if (i < count) to[i] = values[i];
    }
  }
}

// One of several blocks that share some work.
struct Share {
  int64_t block;
  int64_t blocks;
};

// Calls visit(first element, number of elements up to `width`) for this thread's share of `total` elements.
template <int width, typename Visit>
FSC_DEVICE void stride_over(const Share& share, int64_t total, const Visit& visit) {
  const int64_t step = share.blocks * num_threads() * width;
  for (int64_t i = (share.block * num_threads() + thread()) * width; i < total; i += step) {
    visit(i, static_cast<int>(total - i < width ? total - i : width));
  }
}

template <int width, typename Visit>
FSC_DEVICE void stride_over(int64_t total, const Visit& visit) {
  stride_over<width>({block(), num_blocks()}, total, visit);
}

}  // namespace fsc::device

namespace fsc {

constexpr int kVectorBytes = 16;

// Elements of a type that one access moves.
template <typename T>
constexpr int kVectorWidth = kVectorBytes / static_cast<int>(sizeof(T));

// Whether all pointers allow accesses of 16 bytes; null ones do.
template <typename... Pointers>
bool aligned(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % kVectorBytes == 0) && ...);
}

}  // namespace fsc
