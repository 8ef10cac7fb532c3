// Convolutions of 3x3 filters at stride 1 through Winograd's transforms F(4x4, 3x3) and F(2x2, 3x3), in float32: what
// the passes take, and the passes of each set of instructions. Nothing of ATen, so that a file for AVX-512 shares no
// code with others.
//
// The input is cut into overlapping tiles of 6x6 (4x4) pixels, the output into tiles of 4x4 (2x2). A row is one tile of
// one image, image by image. With X, W and Y an input tile, a filter and an output tile:
//   V = B^T X B,  U = G W G^T,  M = sum over channels of U V,  Y = A^T M A
// at 36 (16) points each, a product of matrices [rows, C_in] [C_in, C_out] a point; the gradient goes back the same
// way:
//   dM = A dY A^T,  dU = sum over rows of V dM,  dW = G^T dU G
// V belongs to the input alone: steps on the same input share it. Multiplications are a quarter (4 of 9) of the direct
// ones.
#pragma once

#include <cstdint>

namespace fsc::winograd {

constexpr int64_t kChannels = 16;  // input channels of a block; the last is filled up with zeros
constexpr int64_t kApart = 16;     // values between two points: strides of powers of two would share cache sets

struct Layer {
  int64_t images, channels, filters;
  int64_t input_height, input_width;
  int64_t height, width;  // of the output
  int64_t padding_high, padding_wide;
  int64_t tile;  // pixels of an output tile along one side

  int64_t tiles_high() const { return (height + tile - 1) / tile; }
  int64_t tiles_wide() const { return (width + tile - 1) / tile; }
  int64_t tiles() const { return tiles_high() * tiles_wide(); }
  int64_t rows() const { return tiles() * images; }
  int64_t blocks() const { return (channels + kChannels - 1) / kChannels; }
  int64_t pixels() const { return tile * tile; }
  int64_t points() const { return (tile + 2) * (tile + 2); }
};

// Consecutive rows, worked on together.
struct Panel {
  int64_t begin, rows;
};

// Filters that are worked on together: `columns` vectors of them, of which the last may be filled up.
struct Filters {
  int64_t begin, count;  // that there are
  int64_t columns;       // 1 or 2
};

// What turns outputs into residuals, of one panel and some filters; F = columns * lanes.
struct Epilogue {
  const float* target;    // [rows, pixels, F]
  const float* shortcut;  // [rows, pixels, F], or none
  const float* bias;      // [F], or none
  const float* share;     // [images], or none
  bool relu;
};

// Where a gradient is no more than rounding. A weight whose inputs and residuals never meet has the gradient 0, but the
// points hand it the rounding of its neighbours, which Adam would take for a direction: what is below `least` times the
// norms of the channel and of the residual is set to 0. So is all that a filter has whose residual is the rounding of
// its outputs: it has arrived.
struct Rounding {
  const float* channels;   // [C_in], norms over images and pixels
  const float* residuals;  // [parts, F], squared norms
  const float* arrived;    // [F], squared norms of residuals that are rounding, or none
  float least;
};

// The passes of one set of instructions and one size of tiles. With C = kChannels * blocks and F = columns * lanes:
//   v [points, blocks, rows, kChannels]   m [points, rows * F + kApart]   u, du [points, C * F + kApart]
struct Passes {
  int64_t lanes;
  int64_t tile;
  // V of a panel; input [N, H, W, C_in].
  void (*transform_input)(const Layer& layer, const Panel& panel, const float* input, float* v);
  // U of some filters; weight [C_out, C_in, 3, 3].
  void (*transform_weight)(const Layer& layer, const Filters& filters, const float* weight, float* u);
  // M = V U.
  void (*multiply)(const Layer& layer, const Panel& panel, const Filters& filters, const float* v, const float* u,
                   float* m);
  // Turns M into dM of the residual act'(S) (act(S) - T), whose squares are added to squares [F]; returns the sum of
  // squares of act(S) - T.
  double (*residual)(const Layer& layer, const Panel& panel, const Filters& filters, const Epilogue& epilogue, float* m,
                     float* squares);
  // The outputs A^T M A + bias of a panel, to [rows, pixels, F]; 0 beyond the map. No bias where there is none.
  void (*outputs)(const Layer& layer, const Panel& panel, const Filters& filters, const float* m, const float* bias,
                  float* to);
  // dM of residuals [rows, pixels, F] that are 0 beyond the map; their squares are added to squares [F].
  void (*spread)(const Layer& layer, const Panel& panel, const Filters& filters, const float* residual, float* m,
                 float* squares);
  // dU = V^T dM, added to what is there unless `first`.
  void (*accumulate)(const Layer& layer, const Panel& panel, const Filters& filters, const float* v, const float* m,
                     bool first, float* du);
  // dW = scale G^T dU G, with dU the sum of `parts` that lie one behind the other; grad [C_out, C_in, 3, 3].
  void (*transform_gradient)(const Layer& layer, const Filters& filters, const float* du, int64_t parts,
                             const Rounding& rounding, float scale, float* grad);
};

// Of tiles of 4x4 and of 2x2; none where the compiler does not have the instructions.
extern const Passes* const avx512;
extern const Passes* const avx2;

}  // namespace fsc::winograd
