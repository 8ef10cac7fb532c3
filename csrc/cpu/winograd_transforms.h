// Winograd's transforms along one side, and of whole tiles. Included by the file of one set of instructions, below its
// pragma.
#pragma once

#include <cstdint>

namespace {

// F(4x4, 3x3) at the points 0, 1, -1, 2, -2 and infinity.
struct Four {
  static constexpr int kTile = 4, kReach = 6, kPixels = 16, kPoints = 36;

  template <typename Vector>
  static void input(const Vector* x, int64_t stride, Vector* to) {  // B^T
    const Vector x1 = x[stride], x2 = x[2 * stride], x3 = x[3 * stride], x4 = x[4 * stride];
    const Vector even = x4 - 4 * x2, odd = x3 - 4 * x1, near = x4 - x2, far = 2 * (x3 - x1);
    to[0] = 4 * x[0] - 5 * x2 + x4;
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = near + far;
    to[4] = near - far;
    to[5] = 4 * x1 - 5 * x3 + x[5 * stride];
  }

  template <typename Vector>
  static void filter(const Vector* w, int64_t stride, Vector* to) {  // G
    const Vector w0 = w[0], w1 = w[stride], w2 = w[2 * stride];
    const Vector ends = (w0 + w2) * (1.0f / 6), middle = w1 * (1.0f / 6);
    const Vector even = w0 * (1.0f / 24) + w2 * (1.0f / 6), odd = w1 * (1.0f / 12);
    to[0] = 0.25f * w0;
    to[1] = -ends - middle;
    to[2] = middle - ends;
    to[3] = even + odd;
    to[4] = even - odd;
    to[5] = w2;
  }

  template <typename Vector>
  static void filter_gradient(const Vector* u, int64_t stride, Vector* to) {  // G^T
    const Vector u1 = u[stride], u2 = u[2 * stride], u3 = u[3 * stride], u4 = u[4 * stride];
    const Vector ones = (u1 + u2) * (1.0f / 6), twos = u3 + u4;
    to[0] = 0.25f * u[0] - ones + twos * (1.0f / 24);
    to[1] = (u2 - u1) * (1.0f / 6) + (u3 - u4) * (1.0f / 12);
    to[2] = twos * (1.0f / 6) - ones + u[5 * stride];
  }

  template <typename Vector>
  static void output(const Vector* m, int64_t stride, Vector* to) {  // A^T
    const Vector m1 = m[stride], m2 = m[2 * stride], m3 = m[3 * stride], m4 = m[4 * stride];
    const Vector ones = m1 + m2, one = m1 - m2, twos = m3 + m4, two = m3 - m4;
    to[0] = m[0] + ones + twos;
    to[1] = one + 2 * two;
    to[2] = ones + 4 * twos;
    to[3] = one + 8 * two + m[5 * stride];
  }

  template <typename Vector>
  static void output_gradient(const Vector* y, int64_t stride, Vector* to) {  // A
    const Vector y0 = y[0], y1 = y[stride], y2 = y[2 * stride], y3 = y[3 * stride];
    const Vector even = y0 + y2, odd = y1 + y3, evens = y0 + 4 * y2, odds = 2 * y1 + 8 * y3;
    to[0] = y0;
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = evens + odds;
    to[4] = evens - odds;
    to[5] = y3;
  }
};

// F(2x2, 3x3) at the points 0, 1, -1 and infinity.
struct Two {
  static constexpr int kTile = 2, kReach = 4, kPixels = 4, kPoints = 16;

  template <typename Vector>
  static void input(const Vector* x, int64_t stride, Vector* to) {  // B^T
    const Vector x1 = x[stride], x2 = x[2 * stride];
    to[0] = x[0] - x2;
    to[1] = x1 + x2;
    to[2] = x2 - x1;
    to[3] = x1 - x[3 * stride];
  }

  template <typename Vector>
  static void filter(const Vector* w, int64_t stride, Vector* to) {  // G
    const Vector ends = 0.5f * (w[0] + w[2 * stride]), middle = 0.5f * w[stride];
    to[0] = w[0];
    to[1] = ends + middle;
    to[2] = ends - middle;
    to[3] = w[2 * stride];
  }

  template <typename Vector>
  static void filter_gradient(const Vector* u, int64_t stride, Vector* to) {  // G^T
    const Vector ends = 0.5f * (u[stride] + u[2 * stride]);
    to[0] = u[0] + ends;
    to[1] = 0.5f * (u[stride] - u[2 * stride]);
    to[2] = ends + u[3 * stride];
  }

  template <typename Vector>
  static void output(const Vector* m, int64_t stride, Vector* to) {  // A^T
    to[0] = m[0] + m[stride] + m[2 * stride];
    to[1] = m[stride] - m[2 * stride] - m[3 * stride];
  }

  template <typename Vector>
  static void output_gradient(const Vector* y, int64_t stride, Vector* to) {  // A
    to[0] = y[0];
    to[1] = y[0] + y[stride];
    to[2] = y[0] - y[stride];
    to[3] = -y[stride];
  }
};

// Both sides of a tile [kFrom, kFrom], to [kTo, kTo].
template <int kFrom, int kTo, typename Vector, typename Side>
inline __attribute__((always_inline)) void both_sides(const Vector* from, Vector* to, Side side) {
  Vector half[kFrom][kTo];
#pragma GCC unroll 6
  for (int i = 0; i < kFrom; ++i) side(from + i * kFrom, 1, half[i]);
#pragma GCC unroll 6
  for (int j = 0; j < kTo; ++j) {
    Vector column[kTo];
    side(&half[0][j], kTo, column);
#pragma GCC unroll 6
    for (int i = 0; i < kTo; ++i) to[i * kTo + j] = column[i];
  }
}

}  // namespace
