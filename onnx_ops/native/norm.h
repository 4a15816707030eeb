// Group normalization, and SiLU behind it, as plain C++:
//
//   y = gamma_c (x - mean_g) / sqrt(variance_g + epsilon) + beta_c    [then y / (1 + exp(-y))]
//
// over the channels and pixels of each group. Sums have one order and only what says so is a fused multiply-add, so
// that every instruction set and number of threads gives the same bits. Kernels know no ONNX Runtime types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quantface {

struct NormCall {
  const float* x = nullptr;  // (images, channels, pixels)
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float* y = nullptr;
  std::int64_t images = 0, channels = 0, pixels = 0, groups = 1;
  float epsilon = 0;
  bool silu = false;
  float* gains = nullptr;    // (images, channels): what x is multiplied by
  float* offsets = nullptr;  // (images, channels): and then is added
};

// Groups first to last - 1 of all images.
struct NormKernels {
  void (*run)(const NormCall& call, std::int64_t first, std::int64_t last);
  void (*moments)(const NormCall& call, std::int64_t first, std::int64_t last);  // gains, offsets
};

}  // namespace quantface
