// Group normalization. Sums go to 16 lanes whatever the vector's width. Included after vectors.inc.h by one
// file per instruction set, which defines
//
//   larger, smaller   of a and b; b where one of them is not a number
//   fused             a * b + c, rounded once

constexpr std::int64_t kLanes = 16, kParts = kLanes / kWidth;
constexpr std::int64_t kSummed = 64 * kLanes;  // values until float sums go to double
constexpr std::int64_t kAhead = 512;           // values fetched early

// Sums of up to kSummed values less a shift, and of their squares.
struct LaneSums {
  F sums[kParts] = {}, squares[kParts] = {};

  // What can be read ends at `last`.
  ALWAYS_INLINE LaneSums(const float* x, std::int64_t count, float shift, const float* last) {
    const auto take = [&](int part, F v) {
      sums[part] += v;
      squares[part] += v * v;
    };
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      __builtin_prefetch(x + i + kAhead);
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) take(part, load(x + i + part * kWidth) - shift);
    }
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part, i += kWidth) {
      if (i < count) take(part, first_of(load_until(x + i, last) - shift, count - i));
    }
  }
};

struct Moments {
  double sum = 0, squares = 0;  // of x - shift
};

Moments moments(const float* x, std::int64_t count, float shift) {
  Moments total;
  for (std::int64_t begin = 0; begin < count; begin += kSummed) {
    const LaneSums lanes(x + begin, count - begin < kSummed ? count - begin : kSummed, shift, x + count);
    for (int lane = 0; lane < kLanes; ++lane) {
      total.sum += static_cast<double>(lanes.sums[lane / kWidth][lane % kWidth]);
      total.squares += static_cast<double>(lanes.squares[lane / kWidth][lane % kWidth]);
    }
  }
  return total;
}

// 2**(x times), the exponent kept within -125 to 125: 2**n times a polynomial of the rest. What is not a number becomes
// the least.
ALWAYS_INLINE F power_of_two(F x, float times) {
  const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23
  const F factor = F{} + times, most = absolute(F{} + 125.0f / times);
  x = smaller(larger(x, -most), most);
  const F shifted = fused(x, factor, rounder), rest = fused(x, factor, rounder - shifted);
  F p = F{} + 1.327647129e-3f;
#pragma GCC unroll 5
  for (const float c : {9.675541893e-3f, 5.550713092e-2f, 2.402212024e-1f, 6.931469440e-1f, 1.0f}) {
    p = fused(p, rest, F{} + c);
  }
  return (F)((I)p + ((I)shifted << 23));  // n is in the lowest bits
}

// v / (1 + exp(-v)). A power of two takes five operations less than one of e.
ALWAYS_INLINE F silu(F v) { return v / (1.0f + power_of_two(v, -1.44269504f)); }

template <bool kSilu>
ALWAYS_INLINE F normalized(F x, float gain, float offset) {
  const F v = fused(x, gain - F{}, offset - F{});  // not F{} + gain, an addition that would make 0 of -0
  return kSilu ? silu(v) : v;
}

template <bool kSilu>
void normalize(const float* x, std::int64_t count, float gain, float offset, float* y) {
  std::int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    store(y + i, normalized<kSilu>(load(x + i), gain, offset));
  }
  if (i < count) {
    store_some(y + i, normalized<kSilu>(load_until(x + i, x + count), gain, offset), count - i);
  }
}

// Gains and offsets of the channels of groups first to last - 1.
void run_moments(const NormCall& c, std::int64_t first, std::int64_t last) {
  const std::int64_t channels = c.channels / c.groups, size = channels * c.pixels;
  for (std::int64_t group = first; group < last; ++group) {
    const float* x = c.x + group * size;
    const float shift = x[0];
    const Moments total = moments(x, size, shift);
    const double mean = total.sum / static_cast<double>(size);
    const double spread = total.squares / static_cast<double>(size) - mean * mean;
    const double variance = spread > 0 ? spread : 0;
    const double scale = 1 / __builtin_sqrt(variance + static_cast<double>(c.epsilon));
    for (std::int64_t i = 0; i < channels; ++i) {
      const std::int64_t channel = group % c.groups * channels + i, of = group * channels + i;
      const double gain = static_cast<double>(c.gamma[channel]) * scale;
      c.gains[of] = static_cast<float>(gain);
      c.offsets[of] = static_cast<float>(static_cast<double>(c.beta[channel]) -
                                         (mean + static_cast<double>(shift)) * gain);
    }
  }
}

// Whole groups: their values are read twice while they may still be in the cache.
void run_norm(const NormCall& c, std::int64_t first, std::int64_t last) {
  const std::int64_t channels = c.channels / c.groups;
  const auto run = c.silu ? normalize<true> : normalize<false>;
  for (std::int64_t group = first; group < last; ++group) {
    run_moments(c, group, group + 1);
    for (std::int64_t of = group * channels; of < (group + 1) * channels; ++of) {
      run(c.x + of * c.pixels, c.pixels, c.gains[of], c.offsets[of], c.y + of * c.pixels);
    }
  }
}

constexpr NormKernels kNormKernels = {run_norm, run_moments};
