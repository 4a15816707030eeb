// Plans of convolutions: the order of weights, and sums that fit.
#include "conv.h"

#include <cstdlib>
#include <cstring>

#include "rotation.h"

namespace quantface {
namespace {

constexpr std::int64_t kWinogradTop = 63;  // a transformed code is at most four times one

template <class T>
bool allocate(T** array, std::int64_t count) {
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, bytes + 64) != 0) return false;
  std::memset(memory, 0, bytes);
  *array = static_cast<T*>(memory);
  return true;
}

// U = G g G^T for the nine taps g of one filter and channel, with G twice the usual one.
void transform_weight(const std::int8_t* g, int (*u)[4]) {
  int rows[4][3];
  for (int j = 0; j < 3; ++j) {
    const int a = g[j], b = g[3 + j], c = g[6 + j];
    rows[0][j] = 2 * a;
    rows[1][j] = a + b + c;
    rows[2][j] = a - b + c;
    rows[3][j] = 2 * c;
  }
  for (int i = 0; i < 4; ++i) {
    const int a = rows[i][0], b = rows[i][1], c = rows[i][2];
    u[i][0] = 2 * a;
    u[i][1] = a + b + c;
    u[i][2] = a - b + c;
    u[i][3] = 2 * c;
  }
}

// What the input's transform adds to keep its values from being negative: top for each row that
// subtracts, 2 top for each column.
int transform_offset(int position, int top) {
  const int i = position / 4, j = position % 4;
  const int row = i == 1 ? 0 : top;
  return j == 1 ? 2 * row : 2 * top;
}

// The same for the branch, in float and with the usual G.
void transform_down(const float* g, float* u) {
  float rows[4][3];
  for (int j = 0; j < 3; ++j) {
    const float a = g[j], b = g[3 + j], c = g[6 + j];
    rows[0][j] = a;
    rows[1][j] = (a + b + c) / 2;
    rows[2][j] = (a - b + c) / 2;
    rows[3][j] = c;
  }
  for (int i = 0; i < 4; ++i) {
    const float a = rows[i][0], b = rows[i][1], c = rows[i][2];
    u[4 * i] = a;
    u[4 * i + 1] = (a + b + c) / 2;
    u[4 * i + 2] = (a - b + c) / 2;
    u[4 * i + 3] = c;
  }
}

class Packing {
 public:
  Packing(const ConvConstants& constants, ConvPlan* plan)
      : constants_(constants), plan_(*plan), g_(plan->geometry) {}

  std::int64_t block_of(std::int64_t f) const { return f / plan_.outputs; }

  std::int8_t& weight(std::int64_t f, std::int64_t position, std::int64_t channel) {
    const std::int64_t at = (block_of(f) * plan_.positions + position) * plan_.steps + channel / 4;
    return plan_.weights[(at * plan_.outputs + f % plan_.outputs) * 4 + channel % 4];
  }

  std::int32_t& start(std::int64_t f, std::int64_t position) {
    return plan_.start[(block_of(f) * plan_.positions + position) * plan_.outputs +
                       f % plan_.outputs];
  }

  // Winograd's transformed weights, or false where one of them is not a byte.
  bool winograd() {
    const std::int64_t pairs = g_.filters * g_.channels;
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      const std::int64_t f = pair / g_.channels, c = pair % g_.channels;
      int u[4][4];
      transform_weight(constants_.weights + 9 * pair, u);
      for (int position = 0; position < 16; ++position) {
        const int value = u[position / 4][position % 4];
        if (value < -128 || value > 127) return false;
        weight(f, position, c) = static_cast<std::int8_t>(value);
        start(f, position) -= transform_offset(position, plan_.top) * value;
      }
    }
    return true;
  }

  void taps() {
    const std::int8_t* from = constants_.weights;
    for (std::int64_t f = 0; f < g_.filters; ++f) {
      for (std::int64_t c = 0; c < g_.channels; ++c) {
        for (int position = 0; position < plan_.positions; ++position) {
          weight(f, position, c) = *from++;
        }
      }
    }
  }

  // The most steps whose sums stay in int16, whatever the codes; 0 if one pair may leave it.
  int longest_chunk() const {
    const int limit = 32767 / (plan_.winograd ? 4 * plan_.top : plan_.top > 0 ? plan_.top : 1);
    const std::int64_t runs = std::int64_t{plan_.blocks} * plan_.positions;
    const int lanes = 2 * plan_.outputs;  // pairs of channels
    int chunk = plan_.steps;
    for (std::int64_t run = 0; run < runs; ++run) {
      const std::int8_t* weights = plan_.weights + run * plan_.steps * 2 * lanes;
      for (int lane = 0; lane < lanes; ++lane) {
        int plus = 0, minus = 0, length = 0;
        const auto add = [&](int step, int sign) {
          for (int k = 0; k < 2; ++k) {
            const int w = weights[(std::int64_t{step} * lanes + lane) * 2 + k];
            (w > 0 ? plus : minus) += sign * (w > 0 ? w : -w);
          }
          length += sign;
        };
        for (int step = 0; step < plan_.steps; ++step) {
          add(step, 1);
          while (length > chunk || plus > limit || minus > limit) {
            if (length <= chunk) chunk = length - 1;
            add(step + 1 - length, -1);
          }
        }
        if (chunk == 0) return 0;
      }
    }
    return chunk;
  }

  void constants() {
    for (std::int64_t f = 0; f < g_.filters; ++f) {
      const std::int64_t depth = g_.channels * g_.kernel[0] * g_.kernel[1];
      std::uint32_t sum = 0;
      for (std::int64_t i = 0; i < depth; ++i) {
        sum += static_cast<std::uint32_t>(constants_.weights[f * depth + i]);
      }
      plan_.bias[f] = static_cast<std::int32_t>(
          static_cast<std::uint32_t>(constants_.bias[f]) -
          sum * static_cast<std::uint32_t>(plan_.zero_point));
      plan_.multiplier[f] = constants_.x_scale * constants_.weight_scale[f] / plan_.y_scale;
      for (int r = 0; r < plan_.rank; ++r) {
        plan_.up[(block_of(f) * plan_.rank + r) * plan_.outputs + f % plan_.outputs] =
            constants_.up[f * plan_.rank + r];
      }
    }
  }

  void down() {
    const std::int64_t taps = g_.kernel[0] * g_.kernel[1];
    for (std::int64_t r = 0; r < plan_.rank; ++r) {
      for (std::int64_t c = 0; c < g_.channels; ++c) {
        const float* from = constants_.down + (r * g_.channels + c) * taps;
        float u[16];
        if (plan_.branch_winograd) {
          transform_down(from, u);
          from = u;
        }
        for (int p = 0; p < plan_.branch_positions; ++p) {
          const std::int64_t at = (block_of(r) * plan_.branch_positions + p) * g_.channels + c;
          plan_.down[at * plan_.outputs + r % plan_.outputs] = from[p];
        }
      }
    }
  }

 private:
  const ConvConstants& constants_;
  ConvPlan& plan_;
  const ConvGeometry& g_;
};

bool pack_weights(const ConvConstants& constants, bool winograd, ConvPlan* plan) {
  std::free(plan->weights);
  std::free(plan->start);
  plan->weights = nullptr;
  plan->start = nullptr;
  const ConvGeometry& g = plan->geometry;
  plan->winograd = winograd;
  plan->positions = winograd ? 16 : static_cast<int>(g.kernel[0] * g.kernel[1]);
  const std::int64_t outputs = std::int64_t{plan->blocks} * plan->positions * plan->outputs;
  if (!allocate(&plan->weights, outputs * plan->steps * 4) || !allocate(&plan->start, outputs)) {
    return false;
  }
  Packing packing(constants, plan);
  plan->chunk = 0;
  if (!winograd) {
    packing.taps();
  } else if (!packing.winograd()) {
    return true;
  }
  plan->chunk = packing.longest_chunk();
  return true;
}

}  // namespace

bool make_conv_plan(const Kernels& kernels, const ConvConstants& constants, ConvPlan* plan) {
  const ConvGeometry& g = plan->geometry;
  plan->outputs = 2 * kernels.conv.lanes;
  plan->blocks = static_cast<int>((g.filters + plan->outputs - 1) / plan->outputs);
  plan->steps = static_cast<int>((g.channels + 3) / 4);
  const bool square = g.kernel[0] == 3 && g.kernel[1] == 3 && g.stride[0] == 1 && g.stride[1] == 1;
  plan->branch_winograd = square;
  plan->branch_positions = square ? 16 : static_cast<int>(g.kernel[0] * g.kernel[1]);
  plan->rank_blocks = (plan->rank + plan->outputs - 1) / plan->outputs;
  bool made = true;
  if (square && plan->top <= kWinogradTop) made = pack_weights(constants, true, plan);
  if (made && plan->chunk == 0) made = pack_weights(constants, false, plan);
  const std::int64_t filters = std::int64_t{plan->blocks} * plan->outputs;
  made = made && allocate(&plan->bias, filters) && allocate(&plan->multiplier, filters) &&
         allocate(&plan->up, filters * plan->rank) &&
         allocate(&plan->down, std::int64_t{plan->rank_blocks} * plan->branch_positions *
                                   g.channels * plan->outputs);
  if (!made) {
    free_conv_plan(plan);
    return false;
  }
  const int code = plan->winograd ? 4 * plan->top : plan->top;
  plan->wide = plan->chunk == 0 || code > kernels.conv.most_code;
  if (plan->wide || !kernels.conv.narrow) plan->chunk = plan->steps;
  Packing packing(constants, plan);
  packing.constants();
  packing.down();
  return true;
}

void free_conv_plan(ConvPlan* plan) {
  std::free(plan->weights);
  std::free(plan->start);
  std::free(plan->bias);
  std::free(plan->multiplier);
  std::free(plan->up);
  std::free(plan->down);
  plan->weights = nullptr;
  plan->start = plan->bias = nullptr;
  plan->multiplier = plan->up = plan->down = nullptr;
}

}  // namespace quantface
