// LayerNorm and GEGLU with their codes, and codes alone. Included after norm.inc.h and tile.inc.h.

// v times the normal distribution's function of it, whose error function is Abramowitz and Stegun's 7.1.26,
// within 1.5e-7.
ALWAYS_INLINE F gelu(F v) {
  const F t = 1.0f / fused(absolute(v), F{} + 0.231641888f, F{} + 1.0f);  // 0.3275911 / sqrt(2)
  F p = F{} + 1.061405429f;
#pragma GCC unroll 4
  for (const float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = fused(p, t, F{} + c);
  const F tail = p * t * power_of_two(v * v, -0.721347520f) * 0.5f;  // log2(e) / 2
  return v * (v > 0.0f ? 1.0f - tail : tail);
}

// Writes the codes of `count` values, those from the i-th on being value(i).
template <class Value>
ALWAYS_INLINE void put_codes(std::int64_t count, float scale, const Grid& grid, std::uint8_t* codes, Value value) {
  constexpr int kCodes = 32;  // encoded at once
  for (std::int64_t i = 0; i < count; i += kCodes) {
    float steps[kCodes];
    std::uint8_t last[kCodes];
    const std::int64_t left = count - i;
    for (int v = 0; v < kCodes; v += kWidth) store(steps + v, (v < left ? value(i + v) : F{}) / scale);
    encode(steps, left < kCodes ? last : codes + i, grid);
    if (left < kCodes) __builtin_memcpy(codes + i, last, static_cast<std::size_t>(left));
  }
}

// Writes a row of y, too.
template <class Value>
ALWAYS_INLINE void put_row(const RowCall& c, const Grid& grid, std::int64_t row, Value value) {
  float* y = c.y + row * c.channels;
  put_codes(c.channels, c.grid.scale, grid, c.codes + row * c.channels, [&](std::int64_t i) {
    const F values = value(i);
    store_some(y + i, values, c.channels - i);
    return values;
  });
}

constexpr std::int64_t kShortRow = 128;  // channels up to which rows are measured together: of longer ones the
                                         // next would not be fetched in time

// Means of the rows from `first` on, and what differences from them are multiplied by. Of short rows there are up to
// kWidth: lanes are rows once their sums have changed places, and no row waits for the one before.
struct RowMoments {
  std::int64_t count = 1;
  float centre[kWidth], factor[kWidth];

  RowMoments(const RowCall& c, std::int64_t first, std::int64_t last) {
    const float* x = c.x + first * c.channels;
    if (c.channels > kShortRow) {
      set(c, 0, x[0], moments(x, c.channels, x[0]));
    } else {
      count = last - first < kWidth ? last - first : kWidth;
      set_short(c, x);
    }
  }

  void set_short(const RowCall& c, const float* x) {
    float rows[2][kWidth * kLanes], shifts[kWidth];
    for (std::int64_t r = 0; r < kWidth; ++r) {
      const float* row = x + (r < count ? r : 0) * c.channels;
      const LaneSums lanes(row, c.channels, row[0], c.x + c.rows * c.channels);
      __builtin_memcpy(rows[0] + r * kLanes, lanes.sums, sizeof lanes.sums);
      __builtin_memcpy(rows[1] + r * kLanes, lanes.squares, sizeof lanes.squares);
      shifts[r] = row[0];
    }
    double sums[kWidth] = {}, squares[kWidth] = {};
    add_columns(rows[0], sums);
    add_columns(rows[1], squares);
    for (std::int64_t r = 0; r < kWidth; ++r) set(c, r, shifts[r], {sums[r], squares[r]});
  }

  ALWAYS_INLINE void set(const RowCall& c, std::int64_t r, float shift, Moments total) {
    const double channels = static_cast<double>(c.channels), mean = total.sum / channels;
    const double spread = total.squares / channels - mean * mean, variance = spread > 0 ? spread : 0;
    centre[r] = static_cast<float>(mean + static_cast<double>(shift));
    factor[r] = static_cast<float>(1 / __builtin_sqrt(variance + static_cast<double>(c.epsilon)));
  }

  static void add_columns(const float* rows, double* sums) {
    float columns[kLanes * kWidth];
    for (int lane = 0; lane < kLanes; lane += kWidth) {
      transpose_square(rows + lane, kLanes, columns + lane * kWidth, kWidth);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int r = 0; r < kWidth; ++r) sums[r] += static_cast<double>(columns[lane * kWidth + r]);
    }
  }
};

void run_layer_norm(const RowCall& c, std::int64_t first, std::int64_t last) {
  const Grid grid(c.grid);
  const float* end = c.x + c.rows * c.channels;
  for (std::int64_t row = first; row < last;) {
    const RowMoments rows(c, row, last);
    for (std::int64_t r = 0; r < rows.count; ++r, ++row) {
      const float* x = c.x + row * c.channels;
      put_row(c, grid, row, [&](std::int64_t i) {
        const F normal = (load_until(x + i, end) - rows.centre[r]) * rows.factor[r];
        return normal * load_until(c.gamma + i, c.gamma + c.channels) + load_until(c.beta + i, c.beta + c.channels);
      });
    }
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

void run_scale(const ScaleCall& c, std::int64_t first, std::int64_t last) {
  const Grid grid(c.grid);
  const float* end = c.x + c.values;
  for (std::int64_t row = first; row < last; ++row) {
    const std::int64_t begin = row * c.run, left = c.values - begin;
    const float* x = c.x + begin;
    const F gain = F{} + (c.across ? 1.0f : c.d[row % c.gains]);
    put_codes(left < c.run ? left : c.run, c.grid.scale, grid, c.codes + begin, [&](std::int64_t i) {
      return load_until(x + i, end) * (c.across ? load_until(c.d + i, c.d + c.gains) : gain);
    });
  }
}

constexpr RowKernels kRowKernels = {run_layer_norm, run_geglu, run_scale};
