// Plans of convolutions.
#include "conv_weights.h"

#include <cstdlib>
#include <cstring>

#include "rotation.h"

namespace quantface {
namespace {

constexpr std::int64_t kWinogradTop = 63;  // a transformed code is at most four times one
// Channels above which the branch's tiles are of 2x2 pixels: the factors for 4x4 would leave the cache.
constexpr std::int64_t kMostOfLargeTiles = 640;

template <class T>
bool allocate(T** array, std::int64_t count) {
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, bytes + 64) != 0) return false;
  std::memset(memory, 0, bytes);
  *array = static_cast<T*>(memory);
  return true;
}

// What the input's transform adds. To keep values from being negative: top for each row that subtracts,
// 2 top for each column. To keep them from -2 top to 2 top: only the one that has no subtraction moves.
int transform_offset(bool is_signed, int position, int top) {
  const int i = position / 4, j = position % 4;
  if (is_signed) return position == 5 ? -2 * top : 0;
  const int row = i == 1 ? 0 : top;
  return j == 1 ? 2 * row : 2 * top;
}

// U = G g G^T for the nine taps of one channel of the branch, (tile + 2) squared of them.
void transform_down(const float* g, int tile, float* u) {
  static constexpr double kTwo[][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
  static constexpr double kFour[][3] = {{1 / 4., 0, 0},
                                        {-1 / 6., -1 / 6., -1 / 6.},
                                        {-1 / 6., 1 / 6., -1 / 6.},
                                        {1 / 24., 1 / 12., 1 / 6.},
                                        {1 / 24., -1 / 12., 1 / 6.},
                                        {0, 0, 1}};
  const double(*matrix)[3] = tile == 2 ? kTwo : kFour;
  const int edge = tile + 2;
  for (int i = 0; i < edge; ++i) {
    for (int j = 0; j < edge; ++j) {
      double sum = 0;
      for (int k = 0; k < 9; ++k) sum += matrix[i][k / 3] * static_cast<double>(g[k]) * matrix[j][k % 3];
      u[i * edge + j] = static_cast<float>(sum);
    }
  }
}

// Weights in order, or only what a pass over them tells: position sums in plan.start, and the chunk,
// which is 0 where a transformed weight is not a byte.
bool pack_weights(const Kernels& kernels, const ConvWeights& weights, bool winograd,
                  ConvPlan* plan) {
  std::free(plan->weights);
  std::free(plan->start);
  plan->weights = nullptr;
  plan->start = nullptr;
  const ConvGeometry& g = plan->geometry;
  plan->winograd = winograd;
  plan->positions = winograd ? 16 : static_cast<int>(g.kernel[0] * g.kernel[1]);
  // Lines of all positions are written at once: an even number of them would share sets of the cache.
  plan->position_bytes = std::int64_t{winograd ? plan->steps | 1 : plan->steps} * plan->outputs * 4;
  const std::int64_t bytes = block_bytes(*plan), whole = plan->blocks * bytes;
  const bool keep = weights.stored != Stored::kFourBits || whole <= kKeptBytes;
  std::int8_t* room = nullptr;
  if (!allocate(&room, keep ? whole : bytes)) return false;
  if (keep) plan->weights = room;
  const int sums = plan->positions * plan->outputs;
  bool made = allocate(&plan->start, std::int64_t{plan->blocks} * sums);
  plan->chunk = plan->steps;
  for (int block = 0; made && block < plan->blocks; ++block) {
    std::int8_t* to = room + (keep ? block * bytes : 0);
    const bool fit = expand_weights(kernels, *plan, weights, block, 0, plan->steps, to);
    if (!fit) {
      plan->chunk = 0;
    } else if (kernels.conv.narrow) {
      plan->chunk = longest_chunk(kernels, *plan, to, plan->chunk);
    }
    if (winograd && plan->chunk == 0) break;  // tried again without
    sum_weights(*plan, to, plan->start + std::int64_t{block} * sums);
  }
  if (!keep) std::free(room);
  return made;
}

// Position sums become where sums begin, less what the zero point and the transform add.
void set_constants(const Kernels& kernels, const ConvConstants& constants, ConvPlan* plan) {
  const ConvGeometry& g = plan->geometry;
  for (std::int64_t f = 0; f < g.filters; ++f) {
    const std::int64_t block = f / plan->outputs, output = f % plan->outputs;
    std::int32_t* start = plan->start + block * plan->positions * plan->outputs + output;
    std::uint32_t sum = 0;  // of all taps, which position 5 adds up
    for (int position = 0; position < plan->positions; ++position, start += plan->outputs) {
      if (!plan->winograd || position == 5) sum += static_cast<std::uint32_t>(*start);
      *start *= plan->winograd ? -transform_offset(kernels.conv.is_signed, position, plan->top) : 0;
    }
    const std::int32_t bias = plan->linear ? 0 : constants.bias[f];
    plan->bias[f] = static_cast<std::int32_t>(static_cast<std::uint32_t>(bias) -
                                              sum * static_cast<std::uint32_t>(plan->zero_point));
    if (plan->linear) plan->offset[f] = constants.offset[f];
    plan->multiplier[f] = constants.x_scale * constants.weight_scale[f] / plan->y_scale;
    for (int r = 0; r < plan->rank; ++r) {
      plan->up[(block * plan->rank + r) * plan->outputs + output] = constants.up[f * plan->rank + r];
    }
  }
}

void pack_down(const float* down, ConvPlan* plan) {
  const ConvGeometry& g = plan->geometry;
  const std::int64_t taps = g.kernel[0] * g.kernel[1];
  for (std::int64_t r = 0; r < plan->rank; ++r) {
    for (std::int64_t c = 0; c < g.channels; ++c) {
      const float* from = down + (r * g.channels + c) * taps;
      float u[36];
      if (plan->branch_tile > 1) {
        transform_down(from, plan->branch_tile, u);
        from = u;
      }
      for (int p = 0; p < plan->branch_positions; ++p) {
        const std::int64_t at = (r / plan->outputs * plan->branch_positions + p) * g.channels + c;
        plan->down[at * plan->outputs + r % plan->outputs] = from[p];
      }
    }
  }
}

}  // namespace

bool make_conv_plan(const Kernels& kernels, const ConvConstants& constants, ConvPlan* plan) {
  const ConvGeometry& g = plan->geometry;
  plan->outputs = 2 * kernels.conv.lanes;
  plan->blocks = static_cast<int>((g.filters + plan->outputs - 1) / plan->outputs);
  plan->steps = static_cast<int>((g.channels + 3) / 4);
  const bool square = g.kernel[0] == 3 && g.kernel[1] == 3 && g.stride[0] == 1 && g.stride[1] == 1;
  plan->paired = g.upsample == 2 && g.pads[0] % 2 == 1 && g.pads[1] % 2 == 1;
  plan->branch_tile = !square ? 1 : g.channels <= kMostOfLargeTiles ? 4 : 2;
  plan->branch_positions = square ? (plan->branch_tile + 2) * (plan->branch_tile + 2)
                                  : static_cast<int>(g.kernel[0] * g.kernel[1]);
  plan->rank_blocks = (plan->rank + plan->outputs - 1) / plan->outputs;
  ConvWeights weights = constants.weights;
  std::int8_t* joined = nullptr;
  bool made = true;
  if (weights.stored == Stored::kPlanes) {
    const std::int64_t count = g.filters * g.channels * g.kernel[0] * g.kernel[1];
    made = allocate(&joined, count);
    if (made) join_planes(weights, count, joined);
    weights = {joined, nullptr, Stored::kBytes};
  }
  if (made && square && plan->top <= kWinogradTop) made = pack_weights(kernels, weights, true, plan);
  if (made && plan->chunk == 0) made = pack_weights(kernels, weights, false, plan);
  std::free(joined);
  const std::int64_t filters = std::int64_t{plan->blocks} * plan->outputs;
  made = made && allocate(&plan->bias, filters) && allocate(&plan->multiplier, filters) &&
         allocate(&plan->offset, plan->linear ? filters : 0) &&
         allocate(&plan->up, filters * plan->rank) &&
         allocate(&plan->down, std::int64_t{plan->rank_blocks} * plan->branch_positions *
                                   g.channels * plan->outputs);
  if (!made) {
    free_conv_plan(plan);
    return false;
  }
  plan->wide = plan->chunk == 0 || largest_code(kernels, *plan) > kernels.conv.most_code;
  if (plan->wide) plan->chunk = plan->steps;
  set_constants(kernels, constants, plan);
  pack_down(constants.down, plan);
  return true;
}

void free_conv_plan(ConvPlan* plan) {
  std::free(plan->weights);
  std::free(plan->start);
  std::free(plan->bias);
  std::free(plan->multiplier);
  std::free(plan->offset);
  std::free(plan->up);
  std::free(plan->down);
  plan->weights = nullptr;
  plan->start = plan->bias = nullptr;
  plan->multiplier = plan->offset = plan->up = plan->down = nullptr;
}

}  // namespace quantface
