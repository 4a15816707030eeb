// Group normalization. Sums go to 16 lanes whatever the vector's width. Included after vectors.inc.h.

constexpr std::int64_t kLanes = 16, kParts = kLanes / kWidth;
constexpr std::int64_t kSummed = 64 * kLanes;  // values until float sums go to double

struct Moments {
  double sum = 0, squares = 0;  // of x - shift
};

Moments moments(const float* x, std::int64_t count, float shift) {
  Moments total;
  for (std::int64_t begin = 0; begin < count; begin += kSummed) {
    const std::int64_t end = count - begin < kSummed ? count : begin + kSummed;
    F sums[kParts] = {}, squares[kParts] = {};
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        const F v = load(x + i + part * kWidth) - shift;
        sums[part] += v;
        squares[part] += v * v;
      }
    }
    for (; i < end; ++i) {
      const int lane = static_cast<int>(i % kLanes);
      const float v = x[i] - shift;
      sums[lane / kWidth][lane % kWidth] += v;
      squares[lane / kWidth][lane % kWidth] += v * v;
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      total.sum += static_cast<double>(sums[lane / kWidth][lane % kWidth]);
      total.squares += static_cast<double>(squares[lane / kWidth][lane % kWidth]);
    }
  }
  return total;
}

// exp(v) for v in [-87, 88], within 2 units in the last place: 2**n times a polynomial of the rest.
ALWAYS_INLINE F exponential(F v) {
  const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23
  const F shifted = v * 1.44269504f + rounder;
  const F n = shifted - rounder;
  const F r = v - n * 0.693359375f - n * -2.12194440e-4f;  // ln 2 in two parts
  F p = r * 1.3981999507e-3f + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  const I exponent = (I)shifted << 23;  // n is in the lowest bits
  return (F)((I)p + exponent);
}

ALWAYS_INLINE F silu(F v) {
  const F low = F{} - 87.0f, high = F{} + 87.0f;
  const F above = v > low ? v : low;  // what is not a number becomes low here, and v stays
  return v / (1.0f + exponential(-(above < high ? above : high)));
}

template <bool kSilu>
ALWAYS_INLINE F normalized(F x, float gain, float offset) {
  const F v = x * gain + offset;
  return kSilu ? silu(v) : v;
}

template <bool kSilu>
void normalize(const float* x, std::int64_t count, float gain, float offset, float* y) {
  std::int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    store(y + i, normalized<kSilu>(load(x + i), gain, offset));
  }
  if (i < count) {
    F v = {};
    const std::size_t bytes = static_cast<std::size_t>(count - i) * sizeof(float);
    __builtin_memcpy(&v, x + i, bytes);
    v = normalized<kSilu>(v, gain, offset);
    __builtin_memcpy(y + i, &v, bytes);
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
