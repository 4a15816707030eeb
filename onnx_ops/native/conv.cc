// Plans of convolutions.
#include "conv_weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "kernels.h"

namespace quantface {
namespace {

// Weights of one tap above which there are no tiles of 4x4 pixels: such layers stand where images are small.
constexpr std::int64_t kMostOfFour = 1 << 20;
// Channels up to which there are no tiles: their transforms would cost more than they save.
constexpr std::int64_t kFewChannels = 8;
// Channels above which the branch's tiles are of 2x2 pixels: the factors for 4x4 would leave the cache.
constexpr std::int64_t kMostOfLargeTiles = 640;

// Steps of four channels in a row of a matrix, and of all taps, below which products of vectors are faster.
constexpr int kLeastDepth = 4, kLeastSteps = 25;

template <class T>
bool allocate(T** array, std::int64_t count) {
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, bytes + 64) != 0) return false;
  std::memset(memory, 0, bytes);
  *array = static_cast<T*>(memory);
  return true;
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

void free_form(ConvForm* form) {
  std::free(form->weights);
  std::free(form->start);
  std::free(form->ends);
  *form = ConvForm();
}

// Steps of a row of taps that instructions take at once where they multiply matrices; 0 where too few would pay.
int matrix_depth(const Kernels& kernels, const ConvPlan& plan) {
  if (kernels.conv.matrix_rows == 0) return 0;
  const int steps_of_row = plan.steps * static_cast<int>(plan.geometry.kernel[1]);
  const int depth = tile_depth(steps_of_row);
  return depth < kLeastDepth || steps_of_row * plan.geometry.kernel[0] < kLeastSteps ? 0 : depth;
}

// Adds the form of tiles of `edge` pixels to the plan: weights in order, or only what a pass over them
// tells. Tiles of more than one pixel are left out where a transformed code or weight is not a byte, or a
// pair of their products not in int16. False without memory.
bool add_form(const Kernels& kernels, const ConvWeights& weights, int edge, ConvPlan* plan) {
  const ConvGeometry& g = plan->geometry;
  ConvForm form;
  form.edge = edge;
  form.depth = edge > 1 ? 0 : matrix_depth(kernels, *plan);
  form.positions = edge > 1 ? tile_positions(edge) : static_cast<int>(g.kernel[0] * g.kernel[1]);
  bool fit = largest_code(kernels, *plan, form, kPlainSum) <= kernels.conv.most_code;
  if (!fit && edge > 1) return true;
  // Lines of all positions are written at once: an even number of them would share sets of the cache.
  form.position_bytes = std::int64_t{edge > 1 ? plan->steps | 1 : plan->steps} * plan->outputs * 4;
  const std::int64_t bytes = block_bytes(form), whole = plan->blocks * bytes;
  const bool keep = weights.stored != Stored::kFourBits || whole <= kKeptBytes;
  std::int8_t* room = nullptr;
  if (!allocate(&room, keep ? whole : bytes)) return false;
  const std::int64_t positions = std::int64_t{plan->blocks} * form.positions;
  const bool made = allocate(&form.start, positions * plan->outputs) &&
                    allocate(&form.ends, positions * end_words(plan->steps));
  std::int64_t runs = positions;
  for (std::int64_t block = 0; made && block < plan->blocks && (fit || edge == 1); ++block) {
    std::int8_t* to = room + (keep ? block * bytes : 0);
    fit = expand_weights(kernels, *plan, form, weights, static_cast<int>(block), 0, plan->steps, to) && fit;
    for (int p = 0; p < form.positions && fit && kernels.conv.short_run > 0; ++p) {
      const int ends = mark_ends(kernels, *plan, form, p, to + p * form.position_bytes,
                                 form.ends + (block * form.positions + p) * end_words(plan->steps));
      runs += ends;
      fit = ends >= 0;
    }
  }
  if (keep) {
    form.weights = room;
  } else {
    std::free(room);
  }
  if (!made || (!fit && edge > 1)) {
    free_form(&form);
    return made;
  }
  if (runs * kernels.conv.short_run > positions * plan->steps) form.sums = Sums::kPairs;
  if (!fit) form.sums = Sums::kWide;
  plan->forms[plan->form_count++] = form;
  return true;
}

// Where a filter's sums begin: what takes off again what the transform adds to codes.
void set_start(const Kernels& kernels, const ConvPlan& plan, const ConvForm& form, std::int64_t filter,
               const int* taps) {
  int sums[kMaxTaps];
  transform_taps(form, taps, sums);
  const std::int64_t block = filter / plan.outputs;
  std::int32_t* start = form.start + block * form.positions * plan.outputs + filter % plan.outputs;
  for (int position = 0; position < form.positions; ++position, start += plan.outputs) {
    *start = -transform_offset(form.edge, kernels.conv.is_signed, position, plan.top) * sums[position];
  }
}

void set_constants(const Kernels& kernels, const ConvConstants& constants, const ConvWeights& weights,
                   ConvPlan* plan) {
  const ConvGeometry& g = plan->geometry;
  for (std::int64_t f = 0; f < g.filters; ++f) {
    const std::int64_t block = f / plan->outputs, output = f % plan->outputs;
    int taps[kMaxTaps];
    sum_taps(*plan, weights, f, taps);
    for (int i = 0; i < plan->form_count; ++i) set_start(kernels, *plan, plan->forms[i], f, taps);
    const std::uint32_t sum = std::accumulate(taps, taps + g.kernel[0] * g.kernel[1], std::uint32_t{0});
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
      for (int i = 0; i < taps && plan->down_taps != nullptr; ++i) {
        plan->down_taps[((r / plan->ranks * g.channels + c) * taps + i) * plan->ranks + r % plan->ranks] = from[i];
      }
      float u[36];
      if (plan->branch_tile > 1) {
        transform_down(from, plan->branch_tile, u);
        from = u;
      }
      for (int p = 0; p < plan->branch_positions; ++p) {
        const std::int64_t at = (r / plan->ranks * plan->branch_positions + p) * g.channels + c;
        plan->down[at * plan->ranks + r % plan->ranks] = from[p];
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
  plan->ranks = plan->rank <= kernels.conv.lanes ? kernels.conv.lanes : plan->outputs;
  plan->rank_blocks = (plan->rank + plan->ranks - 1) / plan->ranks;
  ConvWeights weights = constants.weights;
  std::int8_t* joined = nullptr;
  bool made = true;
  if (weights.stored == Stored::kPlanes) {
    const std::int64_t count = g.filters * g.channels * g.kernel[0] * g.kernel[1];
    made = allocate(&joined, count);
    if (made) join_planes(weights, count, joined);
    weights = {joined, nullptr, Stored::kBytes};
  }
  const bool tiles = square && g.channels > kFewChannels && matrix_depth(kernels, *plan) == 0;
  if (made && tiles) made = add_form(kernels, weights, 2, plan);
  if (made && tiles && !plan->paired && g.filters * g.channels <= kMostOfFour) {
    made = add_form(kernels, weights, 4, plan);
  }
  if (made && plan->form_count == 0) made = add_form(kernels, weights, 1, plan);
  const std::int64_t filters = std::int64_t{plan->blocks} * plan->outputs;
  made = made && allocate(&plan->bias, filters) && allocate(&plan->multiplier, filters) &&
         allocate(&plan->offset, plan->linear ? filters : 0) &&
         allocate(&plan->up, filters * plan->rank) &&
         allocate(&plan->down, std::int64_t{plan->rank_blocks} * plan->branch_positions *
                                   g.channels * plan->ranks) &&
         (plan->branch_tile < 4 || plan->rank == 0 ||
          allocate(&plan->down_taps, std::int64_t{plan->rank_blocks} * 9 * g.channels * plan->ranks));
  if (made) {
    set_constants(kernels, constants, weights, plan);
    pack_down(constants.down, plan);
  } else {
    free_conv_plan(plan);
  }
  std::free(joined);
  return made;
}

void free_conv_plan(ConvPlan* plan) {
  for (ConvForm& form : plan->forms) free_form(&form);
  plan->form_count = 0;
  std::free(plan->bias);
  std::free(plan->multiplier);
  std::free(plan->offset);
  std::free(plan->up);
  std::free(plan->down);
  std::free(plan->down_taps);
  plan->bias = nullptr;
  plan->multiplier = plan->offset = plan->up = plan->down = plan->down_taps = nullptr;
}

bool keeps_weights(const ConvPlan& plan) {
  bool all = true;
  for (int i = 0; i < plan.form_count; ++i) all = all && plan.forms[i].weights != nullptr;
  return all;
}

}  // namespace quantface
