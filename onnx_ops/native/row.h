// What stands before a linear layer of a transformer, row by row, as plain C++:
//
//   y = (x - mean) / sqrt(variance + epsilon) * gamma + beta     LayerNorm, over the row
//   y = x * gelu(gate), gelu(v) = v / 2 (1 + erf(v / sqrt(2)))   GEGLU, of the row's halves
//   and the codes of y in a grid; or those of d * x alone
//
// Sums have one order and only what says so is a fused multiply-add, so that every instruction set and number of
// threads gives the same bits. Kernels know no ONNX Runtime types.
#pragma once

#include <cstdint>

#include "grid.h"

namespace quantface {

struct RowCall {
  const float* x = nullptr;  // (rows, channels), or (rows, 2 * channels): values, then gates
  float* y = nullptr;        // (rows, channels)
  std::uint8_t* codes = nullptr;
  std::int64_t rows = 0, channels = 0;
  const float* gamma = nullptr;  // (channels), of LayerNorm
  const float* beta = nullptr;
  float epsilon = 0;
  CodeGrid grid;
};

struct ScaleCall {
  const float* x = nullptr;  // (values)
  std::uint8_t* codes = nullptr;
  const float* d = nullptr;  // (gains): one after the other for a run each, or across it
  std::int64_t values = 0, run = 0, gains = 0;
  bool across = false;
  CodeGrid grid;
};

// Rows, or runs, first to last - 1.
struct RowKernels {
  void (*layer_norm)(const RowCall& call, std::int64_t first, std::int64_t last);
  void (*geglu)(const RowCall& call, std::int64_t first, std::int64_t last);
  void (*scale)(const ScaleCall& call, std::int64_t first, std::int64_t last);
};

}  // namespace quantface
