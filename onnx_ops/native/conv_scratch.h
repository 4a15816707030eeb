// What a task of a convolution has in its scratch. Functions are static, as scratch_layout in kernels.h.
#pragma once

#include "conv.h"

namespace quantface {

// Bytes from one transformed tile to the next beyond its channels: at multiples of 64 the codes that
// are read at once would share a bank of the cache (5 % of the product's time).
constexpr std::int64_t kTileGap = 40;

// Sums of a tile, an odd number of lines of the cache where there are several.
static inline std::int64_t sums_of_tile(const ConvForm& form) {
  return form.edge > 1 ? form.positions | 1 : 1;
}

// Offsets in bytes into the scratch of a block.
struct ConvScratch {
  std::size_t transformed, sums, steps, low, bytes;
};

static inline ConvScratch conv_scratch(const ConvCall& call, int outputs) {
  const std::size_t rows = static_cast<std::size_t>(call.block_pixels * outputs);
  const ConvForm& form = *call.form;
  const std::size_t edge = static_cast<std::size_t>(form.edge);
  ConvScratch layout{};
  if (edge > 1) {
    const std::int64_t tile = call.padded_channels + kTileGap;
    layout.transformed = kLineBytes;  // behind the number of their block
    layout.sums = layout.transformed +
                  static_cast<std::size_t>((form.positions * call.block_pixels * tile + 63) / 64 * 64);
  }
  layout.steps = layout.sums + rows * static_cast<std::size_t>(sums_of_tile(form)) * sizeof(std::int32_t);
  layout.low = layout.steps + edge * edge * rows * sizeof(float);
  layout.bytes = layout.low;
  if (call.joins_branch) layout.bytes += static_cast<std::size_t>(call.block_pixels * call.low_row) * sizeof(float);
  return layout;
}

// Offsets in bytes into the branch's scratch.
struct BranchScratch {
  std::size_t sums, rows, down, bytes;
};

constexpr int kBranchChannels = 32;  // taken at once; more where a block has fewer tiles
constexpr int kBranchGathered = 32;  // floats of one channel gathered for a tap, at most

// Floats in a row of x under a run of tiles, with room for whole vectors, and for two more of what lies beyond it: an
// odd number of lines of the cache.
static inline std::int64_t branch_line(const ConvCall& call) {
  return call.plan->branch_tile * (call.low_block + 16) + 80;
}

// Channels whose tiles are transformed at once.
static inline std::int64_t tile_channels(const ConvCall& call) {
  return kBranchChannels * kBranchPixels / (call.plan->branch_tile * call.low_block);
}

// Floats of one position, with room for what a whole vector writes beyond the last tile.
static inline std::int64_t branch_plane(const ConvCall& call) {
  return tile_channels(call) * call.low_block + 16;
}

// Whether tasks transform the branch's weights: for one block of tiles, bringing four times as many from memory would
// take longer.
static inline bool transforms_down(const ConvCall& call) {
  return call.plan->down_taps != nullptr && call.low_blocks == 1;
}

static inline BranchScratch branch_scratch(const ConvCall& call) {
  const std::size_t pixels = static_cast<std::size_t>(call.low_block);
  const int tile = call.plan->branch_tile;
  const std::size_t positions = static_cast<std::size_t>(call.plan->branch_positions);
  const std::int64_t values = tile > 1 ? branch_plane(call) : kBranchChannels * kBranchGathered;
  BranchScratch layout{};
  layout.sums = positions * static_cast<std::size_t>(values) * sizeof(float);
  layout.rows = layout.sums + positions * pixels * static_cast<std::size_t>(call.plan->ranks) * sizeof(float);
  layout.down = layout.rows + static_cast<std::size_t>((tile + 3) * branch_line(call)) * sizeof(float);
  layout.bytes = layout.down;
  if (transforms_down(call)) {
    layout.bytes += positions * static_cast<std::size_t>(tile_channels(call) * call.plan->ranks) * sizeof(float);
  }
  return layout;
}

}  // namespace quantface
