// The rotation's kernels, as plain C++: y = R_n diag(d) x on tiles of pixels, R_n as in
// onnx_ops/hadamard.py, then codes = clip(round(y / scale) + zero_point) where they are asked for.
//
//   x      (images, n, pixels) or, channels last, (images, pixels, n)
//   tile   n channels of 32 to 512 pixels, in a scratch that fits the second-level cache
//   pass   one factor of R_n = H_m kron S_2 kron ... kron S_2, up to 60 channels at a time
//
// Every sum has one order, whatever the instruction set and the number of threads, so their
// results are equal bit for bit. Kernels know no ONNX Runtime types.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conv.h"
#include "grid.h"
#include "norm.h"
#include "quantized_attention.h"
#include "row.h"

namespace quantface {

enum class Element : std::uint8_t { kFloat, kHalf, kUint8, kInt8 };

constexpr bool is_code(Element e) { return e == Element::kUint8 || e == Element::kInt8; }

constexpr int kMaxOrder = 1 << 16;
constexpr int kMaxSeed = 60;
constexpr int kMaxPasses = 18;
constexpr int kMaxTile = 512;

// The factors of an order n = seed * 2**k, in the order in which they are applied.
struct Plan {
  int n = 0;
  int seed = 1;
  bool transposed = false;
  int passes = 0;
  int radix[kMaxPasses] = {};  // radix[0] is the seed unless that is 1
};

// Whether `seed` has a Paley matrix and n stays within kMaxOrder.
bool make_plan(std::int64_t seed, std::int64_t log2, bool transposed, Plan* plan);

// One call: where the tensors are and what is done to them.
struct Rotation {
  Plan plan;
  Element x_type = Element::kFloat;
  Element y_type = Element::kFloat;
  bool x_channels_last = false;
  bool y_channels_last = false;
  const void* x = nullptr;
  const NormCall* normal = nullptr;  // x goes through it and SiLU first, by known gains and offsets; or null
  void* y = nullptr;
  std::int64_t images = 0;
  std::int64_t pixels = 0;
  const float* gain_in = nullptr;   // (n,) multiplies x
  const float* gain_out = nullptr;  // (n,) multiplies the rotated values, or null
  CodeGrid grid;
  int tile = 64;  // pixels per tile: 32, 64, 128, 256 or 512
};

// Gains in `gains`, room for 2 n floats. What is constant along a row of R_n is folded into
// one multiplier: 1 / sqrt(n), and 1 / scale for codes (scale is 1 otherwise).
void set_gains(const float* d, double scale, float* gains, Rotation* rotation);

void set_tile(Rotation* rotation);
std::int64_t tile_count(const Rotation& rotation);
std::size_t scratch_bytes(const Rotation& rotation);

// The kernels of one instruction set.
struct Kernels {
  const char* name;
  // Tiles first to last - 1; `scratch` has scratch_bytes, aligned to 64, and is the caller's.
  void (*run)(const Rotation& rotation, std::int64_t first, std::int64_t last, void* scratch);
  ConvKernels conv;
  NormKernels norm;
  AttentionKernels attention;
  const QuantizedAttentionKernels& (*quantized_attention)(std::int64_t depth);  // of heads of so many channels
  RowKernels row;
};

// The n-th instruction set that this CPU has, fastest first; null beyond the last.
const Kernels* supported_kernels(int index);

}  // namespace quantface
