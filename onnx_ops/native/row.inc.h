// LayerNorm and GEGLU with their codes. Included after norm.inc.h and tile.inc.h.

// v times the normal distribution's function of it, whose error function is Abramowitz and Stegun's 7.1.26,
// within 1.5e-7.
ALWAYS_INLINE F gelu(F v) {
  const F size = absolute(v), t = 1.0f / (size * 0.231641888f + 1.0f);  // 0.3275911 / sqrt(2)
  F p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const F tail = p * t * power_of_two(v * v * -0.721347520f) * 0.5f;  // log2(e) / 2
  return v * (v > 0.0f ? 1.0f - tail : tail);
}

// Writes a row of y, whose values from the i-th on are value(i), and its codes.
template <class Value>
ALWAYS_INLINE void put_row(const RowCall& c, const Grid& grid, std::int64_t row, Value value) {
  constexpr int kCodes = 32;  // encoded at once
  float* y = c.y + row * c.channels;
  std::uint8_t* codes = c.codes + row * c.channels;
  for (std::int64_t i = 0; i < c.channels; i += kCodes) {
    float steps[kCodes];
    std::uint8_t last[kCodes];
    const std::int64_t left = c.channels - i;
    for (int v = 0; v < kCodes; v += kWidth) {
      const F values = v < left ? value(i + v) : F{};
      if (v < left) store_some(y + i + v, values, left - v);
      store(steps + v, values / c.grid.scale);
    }
    encode(steps, left < kCodes ? last : codes + i, grid);
    if (left < kCodes) __builtin_memcpy(codes + i, last, static_cast<std::size_t>(left));
  }
}

void run_layer_norm(const RowCall& c, std::int64_t first, std::int64_t last) {
  const Grid grid(c.grid);
  const float* end = c.x + c.rows * c.channels;
  for (std::int64_t row = first; row < last; ++row) {
    const float* x = c.x + row * c.channels;
    const Moments total = moments(x, c.channels, x[0]);
    const double count = static_cast<double>(c.channels), mean = total.sum / count;
    const double spread = total.squares / count - mean * mean, variance = spread > 0 ? spread : 0;
    const float centre = static_cast<float>(mean + static_cast<double>(x[0]));
    const float factor = static_cast<float>(1 / __builtin_sqrt(variance + static_cast<double>(c.epsilon)));
    put_row(c, grid, row, [&](std::int64_t i) {
      const F normal = (load_until(x + i, end) - centre) * factor;
      return normal * load_until(c.gamma + i, c.gamma + c.channels) + load_until(c.beta + i, c.beta + c.channels);
    });
  }
}

void run_geglu(const RowCall& c, std::int64_t first, std::int64_t last) {
  const Grid grid(c.grid);
  const float* end = c.x + 2 * c.rows * c.channels;
  for (std::int64_t row = first; row < last; ++row) {
    const float* x = c.x + 2 * row * c.channels;
    put_row(c, grid, row, [&](std::int64_t i) {
      return load_until(x + i, end) * gelu(load_until(x + c.channels + i, end));
    });
  }
}

constexpr RowKernels kRowKernels = {run_layer_norm, run_geglu};
