// Weights of convolutions in the order of the kernels, and sums that fit.
#include "conv_weights.h"

#include <algorithm>

#include "kernels.h"

namespace quantface {
namespace {

#include "points.inc.h"

constexpr int kMostSum = 32767 - 256;  // one pair of weights more stays in int16
constexpr int kStepsAtOnce = 64;  // that a thread expands

int nibble(const std::uint8_t* data, std::int64_t index) {
  return (index % 2 == 0 ? data[index / 2] : data[index / 2] >> 4) & 15;
}

// Of weights that are not in planes.
int weight_at(const ConvWeights& weights, std::int64_t index) {
  if (weights.stored == Stored::kBytes) return static_cast<const std::int8_t*>(weights.data)[index];
  return (nibble(static_cast<const std::uint8_t*>(weights.data), index) ^ 8) - 8;
}

// Adds as many of the weights in `bytes` as are whole periods of an odd number of taps, and returns how many:
// after 2 * taps weights the bytes begin with the first tap again. A period of many is for the compiler, which
// adds whole vectors then.
std::int64_t sum_periods(const std::uint8_t* data, std::int64_t bytes, int taps, int* sums) {
  constexpr int kLongest = 16 * 63;
  constexpr std::int64_t kMost = 65535 / 15;
  const int period = 16 * taps;
  const std::int64_t count = std::min(bytes / period, kMost);
  std::uint16_t low[kLongest] = {}, high[kLongest] = {};  // sums of weight + 8
  for (std::int64_t i = 0; i < count; ++i, data += period) {
    for (int j = 0; j < period; ++j) {
      const int byte = data[j] ^ 0x88;
      low[j] = static_cast<std::uint16_t>(low[j] + (byte & 15));
      high[j] = static_cast<std::uint16_t>(high[j] + (byte >> 4));
    }
  }
  const int offset = static_cast<int>(8 * count);
  for (int j = 0; j < period; ++j) {
    sums[2 * j % taps] += low[j] - offset;
    sums[(2 * j + 1) % taps] += high[j] - offset;
  }
  return 2 * period * count;
}

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

bool expand_weights(const Kernels& kernels, const ConvPlan& plan, const ConvForm& form,
                    const ConvWeights& weights, int block, int first, int last, std::int8_t* to) {
  const ConvGeometry& g = plan.geometry;
  const std::int64_t taps = g.kernel[0] * g.kernel[1];
  const bool swift = (taps == 9 && g.channels % 4 == 0) || (taps == 1 && g.channels % 16 == 0);
  if (weights.stored == Stored::kFourBits && swift) {
    kernels.conv.expand(plan, form, static_cast<const std::uint8_t*>(weights.data), block, first, last, to);
    return true;
  }
  for (int output = 0; output < plan.outputs; ++output) {
    const std::int64_t f = std::int64_t{block} * plan.outputs + output;
    for (int c = 4 * first; c < 4 * last; ++c) {
      int values[kMaxTaps], transformed[kMaxTaps];
      const bool exists = f < g.filters && c < g.channels;
      for (int t = 0; t < taps; ++t) {
        values[t] = exists ? weight_at(weights, (f * g.channels + c) * taps + t) : 0;
      }
      transform_taps(form, values, transformed);
      for (int position = 0; position < form.positions; ++position) {
        if (transformed[position] < -128 || transformed[position] > 127) return false;
        to[position * form.position_bytes + (c / 4 * plan.outputs + output) * 4 + c % 4] =
            static_cast<std::int8_t>(transformed[position]);
      }
    }
  }
  return true;
}

void sum_taps(const ConvPlan& plan, const ConvWeights& weights, std::int64_t filter, int* sums) {
  const ConvGeometry& g = plan.geometry;
  const std::int64_t taps = g.kernel[0] * g.kernel[1], first = filter * g.channels * taps;
  const std::int64_t last = first + g.channels * taps;
  std::fill_n(sums, taps, 0);
  std::int64_t i = first;
  if (weights.stored == Stored::kFourBits && taps % 2 == 1 && first % 2 == 0) {
    i += sum_periods(static_cast<const std::uint8_t*>(weights.data) + first / 2, (last - first) / 2,
                     static_cast<int>(taps), sums);
  }
  for (std::int64_t t = (i - first) % taps; i < last; ++i, t = t + 1 < taps ? t + 1 : 0) {
    sums[t] += weight_at(weights, i);
  }
}

void transform_taps(const ConvForm& form, const int* taps, int* values) {
  if (form.edge == 1) std::copy_n(taps, form.positions, values);
  if (form.edge == 2) transform_weights<2>(taps, values);
  if (form.edge == 4) transform_weights<4>(taps, values);
}

int largest_code(const Kernels& kernels, const ConvPlan& plan, const ConvForm& form, int position) {
  if (form.edge == 1) return plan.top;
  return terms_of(form.edge, position) * plan.top / (kernels.conv.is_signed ? 2 : 1);
}

int mark_ends(const Kernels& kernels, const ConvPlan& plan, const ConvForm& form, int position,
              const std::int8_t* weights, std::uint64_t* ends) {
  const int limit = std::min(32767 / std::max(largest_code(kernels, plan, form, position), 1), kMostSum);
  const bool both = form.edge > 1 && kernels.conv.is_signed;  // signs of codes
  return kernels.conv.mark(weights, plan.steps, limit, both, ends);
}

std::int64_t expand_items(const ConvCall& c) { return c.band * parts(*c.plan); }

void expand_band(const Kernels& kernels, const ConvCall& c, std::int64_t first, std::int64_t last) {
  const ConvPlan& plan = *c.plan;
  for (std::int64_t item = first; item < last; ++item) {
    const int block = static_cast<int>(item / parts(plan));
    const int step = static_cast<int>(item % parts(plan)) * kStepsAtOnce;
    expand_weights(kernels, plan, *c.form, c.source, c.first + block, step,
                   std::min(step + kStepsAtOnce, plan.steps), c.weights + block * block_bytes(*c.form));
  }
}

}  // namespace quantface
