// What the files of one instruction set share with the rest: their tables and the scratch.
#pragma once

#include <numeric>

#include "conv_scratch.h"
#include "rotation.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace quantface {

const Kernels* generic_kernels();
const Kernels* sse4_kernels();
const Kernels* avx2_kernels();
const Kernels* avx2_vnni_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512_vnni_kernels();
const Kernels* amx_kernels();
const Kernels* neon_kernels();
const Kernels* neon_dot_kernels();

// From here on what is written goes to memory directly: not much of it would still be in the caches for
// whoever reads it, and its lines would have to be read before they are written.
constexpr std::int64_t kStreamedBytes = 4 << 20;

constexpr int kLine = kLineBytes / sizeof(float);  // floats

// Steps of four bytes in a row of a tile, the register of a matrix: of those that divide all steps, the most.
static inline int tile_depth(int steps) {
  int depth = 16;
  while (steps % depth != 0) --depth;
  return depth;
}

// Offsets in bytes into a tile's scratch.
struct ScratchLayout {
  int row;             // floats from one channel of the tile to the next
  int block;           // binary logarithm of the channels that follow without a gap
  std::size_t lines;   // four pixels of all channels, for half precision channels last
  std::size_t codes;   // the tile's codes before they are transposed
  std::size_t bytes;
};

// Static, because a file compiled for a newer CPU must not lend its copy to the others.
static inline ScratchLayout scratch_layout(const Rotation& r) {
  const std::size_t n = static_cast<std::size_t>(r.plan.n), tile = static_cast<std::size_t>(r.tile);
  ScratchLayout layout{};
  layout.row = r.tile + kLine;  // off the powers of two, whose rows would share a cache set
  const int channels = r.plan.n / r.plan.radix[0];
  while ((2 << layout.block) <= channels) ++layout.block;
  if (layout.block < 2) layout.block = 30;  // four channels are transposed at a time
  layout.lines = (n * (tile + kLine) + kMaxSeed * kLine) * sizeof(float);
  layout.codes = layout.lines + 4 * n * sizeof(float);
  layout.bytes = layout.codes + n * tile;
  return layout;
}

}  // namespace quantface
