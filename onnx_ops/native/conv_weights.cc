// Weights of convolutions in the order of the kernels, and sums that fit.
#include "conv_weights.h"

#include <algorithm>

#include "rotation.h"

namespace quantface {
namespace {

constexpr int kMostOutputs = 32;
constexpr int kStepsAtOnce = 64;  // that a thread expands

// U = G g G^T for the nine taps g of one filter and channel, with G twice the usual one.
void transform_weight(const int* g, int* u) {
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
    u[4 * i] = 2 * a;
    u[4 * i + 1] = a + b + c;
    u[4 * i + 2] = a - b + c;
    u[4 * i + 3] = 2 * c;
  }
}

int nibble(const std::uint8_t* data, std::int64_t index) {
  return (index % 2 == 0 ? data[index / 2] : data[index / 2] >> 4) & 15;
}

// Of weights that are not in planes.
int weight_at(const ConvWeights& weights, std::int64_t index) {
  if (weights.stored == Stored::kBytes) return static_cast<const std::int8_t*>(weights.data)[index];
  return (nibble(static_cast<const std::uint8_t*>(weights.data), index) ^ 8) - 8;
}

int positive(int value) { return value > 0 ? value : 0; }

std::int64_t parts(const ConvPlan& plan) { return (plan.steps + kStepsAtOnce - 1) / kStepsAtOnce; }

}  // namespace

void join_planes(const ConvWeights& weights, std::int64_t count, std::int8_t* to) {
  const auto* high = static_cast<const std::uint8_t*>(weights.data);
  const auto* low = static_cast<const std::uint8_t*>(weights.low);
  const std::int64_t half = count / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const int first = (nibble(high, i) ^ 8) - 8, second = (nibble(high, half + i) ^ 8) - 8;
    to[i] = static_cast<std::int8_t>(first * 4 ^ nibble(low, i));
    to[half + i] = static_cast<std::int8_t>(second * 4 ^ nibble(low, i) >> 2);
  }
}

bool expand_weights(const Kernels& kernels, const ConvPlan& plan, const ConvWeights& weights,
                    int block, int first, int last, std::int8_t* to) {
  const ConvGeometry& g = plan.geometry;
  const std::int64_t taps = g.kernel[0] * g.kernel[1];
  const bool swift = (taps == 9 && g.channels % 4 == 0) || (taps == 1 && g.channels % 16 == 0);
  if (weights.stored == Stored::kFourBits && swift) {
    kernels.conv.expand(plan, static_cast<const std::uint8_t*>(weights.data), block, first, last, to);
    return true;
  }
  for (int output = 0; output < plan.outputs; ++output) {
    const std::int64_t f = std::int64_t{block} * plan.outputs + output;
    for (int c = 4 * first; c < 4 * last; ++c) {
      int values[kMaxTaps], transformed[16];
      const int* from = values;
      const bool exists = f < g.filters && c < g.channels;
      for (int t = 0; t < taps; ++t) {
        values[t] = exists ? weight_at(weights, (f * g.channels + c) * taps + t) : 0;
      }
      if (plan.winograd) {
        transform_weight(values, transformed);
        from = transformed;
      }
      for (int position = 0; position < plan.positions; ++position) {
        if (from[position] < -128 || from[position] > 127) return false;
        to[position * plan.position_bytes + (c / 4 * plan.outputs + output) * 4 + c % 4] =
            static_cast<std::int8_t>(from[position]);
      }
    }
  }
  return true;
}

std::int64_t block_bytes(const ConvPlan& plan) {
  return plan.positions * plan.position_bytes;
}

void sum_weights(const ConvPlan& plan, const std::int8_t* block, std::int32_t* sums) {
  for (int position = 0; position < plan.positions; ++position, sums += plan.outputs) {
    std::fill_n(sums, plan.outputs, 0);
    const std::int8_t* w = block + position * plan.position_bytes;
    for (int step = 0; step < plan.steps; ++step, w += 4 * plan.outputs) {
      for (int f = 0; f < plan.outputs; ++f) {
        sums[f] += w[4 * f] + w[4 * f + 1] + w[4 * f + 2] + w[4 * f + 3];
      }
    }
  }
}

int largest_code(const Kernels& kernels, const ConvPlan& plan) {
  if (!plan.winograd) return plan.top;
  return (kernels.conv.is_signed ? 2 : 4) * plan.top;
}

int longest_chunk(const Kernels& kernels, const ConvPlan& plan, const std::int8_t* block, int chunk) {
  const int limit = 32767 / std::max(largest_code(kernels, plan), 1);
  const bool both = plan.winograd && kernels.conv.is_signed;  // signs of codes
  const int lanes = 2 * plan.outputs;  // pairs of channels
  for (int position = 0; position < plan.positions; ++position) {
    const std::int8_t* weights = block + position * plan.position_bytes;
    int plus[2 * kMostOutputs] = {}, minus[2 * kMostOutputs] = {}, length = 0;
    // One step more or less in the window; whether the sums of all lanes fit.
    const auto fits = [&](int step, int sign) {
      const std::int8_t* w = weights + std::int64_t{step} * 2 * lanes;
      int most = 0;
      for (int lane = 0; lane < lanes; ++lane) {
        const int a = w[2 * lane], b = w[2 * lane + 1];
        plus[lane] += sign * (positive(a) + positive(b));
        minus[lane] += sign * (positive(-a) + positive(-b));
        most = std::max(most, both ? plus[lane] + minus[lane] : std::max(plus[lane], minus[lane]));
      }
      length += sign;
      return most <= limit;
    };
    for (int step = 0; step < plan.steps; ++step) {
      bool fit = fits(step, 1);
      while (!fit || length > chunk) {
        if (length <= chunk) chunk = length - 1;
        fit = fits(step + 1 - length, -1);
      }
    }
    if (chunk == 0) return 0;
  }
  return chunk;
}

std::int64_t expand_items(const ConvCall& c) { return c.band * parts(*c.plan); }

void expand_band(const Kernels& kernels, const ConvCall& c, std::int64_t first, std::int64_t last) {
  const ConvPlan& plan = *c.plan;
  for (std::int64_t item = first; item < last; ++item) {
    const int block = static_cast<int>(item / parts(plan));
    const int step = static_cast<int>(item % parts(plan)) * kStepsAtOnce;
    expand_weights(kernels, plan, c.source, c.first + block, step,
                   std::min(step + kStepsAtOnce, plan.steps), c.weights + block * block_bytes(plan));
  }
}

}  // namespace quantface
