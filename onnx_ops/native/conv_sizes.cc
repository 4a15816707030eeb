// Sizes and blocks of one call of a convolution.
#include <algorithm>

#include "conv_weights.h"
#include "kernels.h"

namespace quantface {
namespace {

constexpr std::int64_t kItems = 16;    // enough for threads to share
constexpr std::int64_t kFewItems = 8;  // where more of them would make threads wait for each other once more
// Of a block's transformed tiles: what a second-level cache has room for beside weights and sums.
constexpr std::int64_t kTransformedBytes = 320 << 10;
constexpr std::int64_t kFewWeights = 64 << 10;  // of a linear layer: its blocks are half as large
// Above them weights leave the second-level cache from one block to the next: products of matrices, which wait for them
// then, take four times as many pixels.
constexpr std::int64_t kSomeWeights = 768 << 10;
constexpr std::int64_t kRowsOfWeights = 6;
constexpr std::int64_t kSlabStep = 4;  // rows of the largest tiles
constexpr std::int64_t kPartChannels = 32;  // in a part of the branch's channels, at least
constexpr int kMostParts = 4;

// Blocks of at most `most` pixels, whole rounds of `rows` and about alike.
void share(std::int64_t pixels, std::int64_t most, std::int64_t rows, std::int64_t* block,
           std::int64_t* blocks) {
  const std::int64_t rounds = (pixels + rows - 1) / rows;
  const std::int64_t wanted = (rounds * rows + most - 1) / most;
  *block = (rounds + wanted - 1) / wanted * rows;
  *blocks = (pixels + *block - 1) / *block;
}

// The form that takes less: in rows of one position's products, with as many more as bringing its weights takes, from
// memory or, as long as a whole round of products, into the kernels' order.
const ConvForm* form_for(const Kernels& kernels, const ConvCall& c) {
  const ConvForm* best = nullptr;
  std::int64_t least = 0;
  for (int i = 0; i < c.plan->form_count; ++i) {
    const ConvForm& form = c.plan->forms[i];
    const std::int64_t tiles = (c.out_height + form.edge - 1) / form.edge *
                               ((c.out_width + form.edge - 1) / form.edge);
    const std::int64_t rounds = (tiles + kernels.conv.few_rows - 1) / kernels.conv.few_rows;
    const std::int64_t brought = form.weights == nullptr ? kernels.conv.rows : kRowsOfWeights;
    const std::int64_t cost = form.positions * (rounds * kernels.conv.few_rows + brought);
    if (best != nullptr && cost >= least) continue;
    best = &form;
    least = cost;
  }
  return best;
}

}  // namespace

bool set_conv_sizes(const Kernels& kernels, ConvCall* call) {
  ConvCall& c = *call;
  const ConvPlan& plan = *c.plan;
  const ConvGeometry& g = plan.geometry;
  const std::int64_t height = c.height * g.upsample + g.pads[0] + g.pads[2];
  c.padded_width = c.width * g.upsample + g.pads[1] + g.pads[3];
  if (height < g.kernel[0] || c.padded_width < g.kernel[1]) return false;
  c.out_height = (height - g.kernel[0]) / g.stride[0] + 1;
  c.out_width = (c.padded_width - g.kernel[1]) / g.stride[1] + 1;
  const std::int64_t y_floats = c.images * g.filters * c.out_height * c.out_width;
  c.streams = y_floats * std::int64_t{sizeof(float)} >= kStreamedBytes;
  c.form = form_for(kernels, c);
  const std::int64_t edge = c.form->edge;
  if (edge > 1) c.padded_width = (c.out_width + edge - 1) / edge * edge + 2;
  const std::int64_t read = edge > 1 ? 2 * kernels.conv.lanes : 4;  // channels at once
  c.padded_channels = (g.channels + read - 1) / read * read;
  c.low_row = std::int64_t{plan.rank_blocks} * plan.ranks;
  c.slab_rows = c.out_height;
  const std::int64_t row = g.stride[0] * c.padded_width * c.padded_channels;
  const std::int64_t most = c.form->weights != nullptr ? kSlabBytes : kSlabOfBands;
  const std::int64_t slabs = (c.out_height * row + most - 1) / most;
  c.slab_rows = ((c.out_height + slabs - 1) / slabs + kSlabStep - 1) / kSlabStep * kSlabStep;
  set_slab(kernels, 0, 0, call);
  return true;
}

void set_slab(const Kernels& kernels, std::int64_t image, std::int64_t row, ConvCall* call) {
  ConvCall& c = *call;
  const ConvPlan& plan = *c.plan;
  const ConvGeometry& g = plan.geometry;
  c.image = image;
  c.row = row;
  c.rows = c.out_height - row < c.slab_rows ? c.out_height - row : c.slab_rows;
  c.padded_rows = (c.rows - 1) * g.stride[0] + g.kernel[0];
  const std::int64_t edge = c.form->edge;
  c.tile_rows = (c.rows + edge - 1) / edge;
  c.tile_columns = (c.out_width + edge - 1) / edge;
  if (edge > 1) c.padded_rows = edge * c.tile_rows + 2;
  const std::int64_t in_line = std::max(kLineBytes / std::max(c.width, std::int64_t{1}), std::int64_t{1});
  c.pad_step = std::max(in_line * g.upsample, (c.padded_rows + kItems - 1) / kItems);
  const bool matrices = c.form->depth > 0;
  const std::int64_t weights = plan.blocks * block_bytes(*c.form);
  std::int64_t most = kBlockPixels / edge;
  if (plan.linear && weights <= kFewWeights) most /= 2;
  if (matrices) most = weights <= kSomeWeights ? kMatrixPixels / 4 : kMatrixPixels;
  const std::int64_t tile = c.form->positions * (c.padded_channels + kTileGap);
  if (edge > 1 && most * tile > kTransformedBytes) most = std::max(kTransformedBytes / tile, std::int64_t{1});
  const std::int64_t taken = most > kernels.conv.rows ? kernels.conv.rows : kernels.conv.few_rows;
  share(c.tile_rows * c.tile_columns, most, matrices ? kernels.conv.matrix_rows : taken, &c.block_pixels, &c.blocks);
  const std::int64_t rows = (c.rows + plan.branch_tile - 1) / plan.branch_tile;
  const std::int64_t columns = (c.out_width + plan.branch_tile - 1) / plan.branch_tile;
  share(rows * columns, kBranchPixels / plan.branch_tile, kernels.conv.lanes, &c.low_block, &c.low_blocks);
  const bool shares = plan.branch_tile > 1 && c.low_blocks == 1 && c.rows == c.out_height;
  for (c.low_parts = 1; shares && c.low_parts < kMostParts && 2 * c.low_parts * kPartChannels <= g.channels;) {
    c.low_parts *= 2;
  }
  c.first = 0;
  c.band = plan.blocks;
  if (c.form->weights == nullptr) {
    const std::int64_t bands = (weights + kBandBytes - 1) / kBandBytes;
    c.band = static_cast<int>((plan.blocks + bands - 1) / bands);
  }
  const std::int64_t wanted = (kItems + c.blocks - 1) / c.blocks;
  c.joins_branch = plan.linear && c.blocks >= kFewItems && c.band == plan.blocks;
  c.groups = c.joins_branch ? 1 : wanted < c.band ? wanted : c.band;
}

std::size_t band_bytes(const ConvCall& c) {
  return c.form->weights == nullptr ? static_cast<std::size_t>(c.band * block_bytes(*c.form)) : 0;
}

std::size_t padded_bytes(const ConvCall& c) {
  if (c.plan->linear && c.padded_channels == c.plan->geometry.channels) return 0;
  return static_cast<std::size_t>(c.padded_rows * c.padded_width * c.padded_channels);
}

std::size_t low_bytes(const ConvCall& c) {
  if (c.joins_branch) return 0;
  return static_cast<std::size_t>(c.rows * c.out_width * c.low_row) * sizeof(float);
}

std::size_t parts_bytes(const ConvCall& c) {
  if (c.low_parts == 1) return 0;
  return static_cast<std::size_t>(c.low_parts * c.plan->branch_positions * c.low_block * c.low_row) * sizeof(float);
}

std::int64_t branch_items(const ConvCall& c) {
  return c.plan->rank == 0 || c.joins_branch ? 0 : c.low_blocks * c.low_parts;
}

std::int64_t pad_items(const ConvCall& c) {
  if (padded_bytes(c) == 0) return 0;
  return c.plan->linear ? c.width : (c.padded_rows + c.pad_step - 1) / c.pad_step;
}

std::int64_t conv_items(const ConvCall& c) { return c.blocks * c.groups; }

}  // namespace quantface
