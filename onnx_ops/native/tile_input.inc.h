// What a tile of a rotation reads: rows of x, normalized where they must be, with the first factor or as they are. Included
// by tile.inc.h.

struct TileInput {
  const Rotation& r;
  float* rows;     // n rows of `row` floats
  float* lines;    // four pixels of all channels
  std::ptrdiff_t row;
  int block;       // a block has 2**block channels
  std::int64_t image;
  std::int64_t pixel;
  int columns;     // pixels that exist, up to r.tile

  TileInput(const Rotation& rotation, const ScratchLayout& layout, char* scratch) : r(rotation) {
    rows = reinterpret_cast<float*>(scratch);
    lines = reinterpret_cast<float*>(scratch + layout.lines);
    row = layout.row;
    block = layout.block;
  }

  // The rows of one factor lie a power of two apart: without a line between the blocks of the first
  // one they would share a set of the cache.
  float* row_of(int channel) const { return rows + channel * row + (channel >> block) * kLine; }

  // Element of x or y at (image, channel, pixel) of a channels-first tensor.
  std::int64_t at(int channel) const {
    return (image * r.plan.n + channel) * r.pixels + pixel;
  }

  std::int64_t line_at(int column) const {
    return (image * r.pixels + pixel + column) * r.plan.n;
  }

  // Normalizes the pixels of a channel, into the place where others read them too.
  const float* normal_row(int channel) const {
    const NormCall& c = *r.normal;
    const std::int64_t of = image * r.plan.n + channel;
    normalize<true>(c.x + at(channel), columns, c.gains[of], c.offsets[of], c.y + at(channel));
    return c.y + at(channel);
  }

  // Eight rows are read from where they are; a seed's 12 to 60 are gathered first.
  bool reads_in_place() const {
    return columns == r.tile && !r.x_channels_last && r.x_type == Element::kFloat &&
           r.plan.radix[0] == kFirstRadix;
  }

  // No CPU looks ahead across planes: what the next pass over x reads is fetched while this one computes. Eight rows a
  // power of two apart fill the sets of most first-level caches: those go to the second.
  template <int kLocality>
  void fetch(const float* x, int from) const {
#pragma GCC unroll 2
    for (int t = from; t < from + kFetched; t += kLine) __builtin_prefetch(x + t, 0, kLocality);
  }

  static constexpr int kFirstLevel = 3, kSecondLevel = 2;  // of the caches
#ifdef QUANTFACE_AMX
  static constexpr int kLevelOfEight = kFirstLevel;  // CPUs with AMX have sets of twelve lines
#else
  static constexpr int kLevelOfEight = kSecondLevel;
#endif

  static constexpr int kFetched = 2 * kLine;  // of a row at once, a part of every tile

  // Whether the normalized x goes past the caches, in whole vectors. Where it takes the place of x they hold its lines.
  bool streams_to(const float* y) const {
    return kWholeLines && r.grid.stream && r.normal->y != r.x && can_stream(y, r.pixels);
  }

  // The first factor of channels j, j + stride, ...: of x, which is normalized into y on the way where
  // it must be.
  void first_factor(int j, int stride, std::ptrdiff_t step) {
    F gain[kFirstRadix];
    for (int i = 0; i < kFirstRadix; ++i) gain[i] = F{} + r.gain_in[j + i * stride];
    const std::ptrdiff_t far = stride * r.pixels;
    const float* first = static_cast<const float*>(r.x) + at(0);
    const float* x = first + j * r.pixels;
    const float* next = j + 1 < stride ? x + r.pixels : first + r.tile;
    const auto pass = [&](const auto& read) {
      for (int from = 0; from < r.tile; from += kFetched) {
        butterfly_pass<kFirstRadix>(read, row_of(j), step, from, from + kFetched);
        for (int i = 0; i < kFirstRadix; ++i) fetch<kLevelOfEight>(next + i * far, from);
      }
    };
    if (r.normal == nullptr) {
      return pass([&](int t, F* v) {
#pragma GCC unroll 8
        for (int i = 0; i < kFirstRadix; ++i) v[i] = load(x + i * far + t) * gain[i];
      });
    }
    const NormCall& c = *r.normal;
    float* y = c.y + at(j);
    const float* gains = c.gains + image * r.plan.n + j;
    const float* offsets = c.offsets + image * r.plan.n + j;
    // All loads before the stores, whose addresses often have the same last 12 bits, which are what a CPU
    // first tells by whether a load reads what a store before it writes.
    const auto normalize_by = [&](const auto& put) {
      pass([&](int t, F* v) {
#pragma GCC unroll 8
        for (int i = 0; i < kFirstRadix; ++i) v[i] = load(x + i * far + t);
#pragma GCC unroll 8
        for (int i = 0; i < kFirstRadix; ++i) {
          v[i] = normalized<true>(v[i], gains[i * stride], offsets[i * stride]);
          put(y + i * far + t, v[i]);
          v[i] *= gain[i];
        }
      });
    };
    streams_to(y) ? normalize_by(stream) : normalize_by([](float* to, F v) { store(to, v); });
  }

  // The row of a channel becomes gain * what x is once it is normalized, which goes into y.
  void gather_normalized(int channel) {
    const NormCall& c = *r.normal;
    const std::int64_t of = image * r.plan.n + channel;
    const float* x = c.x + at(channel);
    float* y = c.y + at(channel);
    float* to = row_of(channel);
    const F gain = F{} + r.gain_in[channel];
    const float scale = c.gains[of], offset = c.offsets[of];
    for (int from = 0; from < r.tile; from += kFetched) {
      fetch<kFirstLevel>(x + 2 * r.pixels, from);
#pragma GCC unroll 2
      for (int t = from; t < from + kFetched; t += kWidth) {
        const F v = normalized<true>(load(x + t), scale, offset);
        store(y + t, v);
        store(to + t, v * gain);
      }
    }
  }

  // The row of a channel becomes gain * x; pixels that do not exist are zero.
  void gather(int channel) {
    float* to = row_of(channel);
    const float* from = to;
    alignas(64) float padded[kMaxTile];
    const bool whole = columns == r.tile;
    if (whole && r.normal != nullptr) return gather_normalized(channel);
    if (!r.x_channels_last) {
      if (r.x_type == Element::kFloat) {
        from = r.normal == nullptr ? static_cast<const float*>(r.x) + at(channel) : normal_row(channel);
        if (!whole) {
          __builtin_memset(padded, 0, sizeof padded);
          __builtin_memcpy(padded, from, columns * sizeof(float));
          from = padded;
        }
      } else {
        alignas(64) std::uint16_t halves[kMaxTile] = {};
        __builtin_memcpy(halves, static_cast<const std::uint16_t*>(r.x) + at(channel),
                         columns * sizeof(std::uint16_t));
        for (int t = 0; t < r.tile; t += 16) half_to_float(halves + t, padded + t);
        from = padded;
      }
    }
    const F gain = F{} + r.gain_in[channel];
    const bool in_x = from != to && from != padded;
    for (int begin = 0; begin < r.tile; begin += kFetched) {
      if (in_x) fetch<kFirstLevel>(from + 2 * r.pixels, begin);
      for (int t = begin; t < begin + kFetched; t += kWidth) store(to + t, load(from + t) * gain);
    }
  }

  // Channels-last pixels to rows.
  void lines_in() {
    const int n = r.plan.n;
    for (int t = 0; t < r.tile; t += 4) {
      const float* line[4];
      for (int i = 0; i < 4; ++i) {
        float* copy = lines + i * n;
        line[i] = copy;
        if (t + i >= columns) {
          __builtin_memset(copy, 0, n * sizeof(float));
        } else if (r.x_type == Element::kFloat) {
          line[i] = static_cast<const float*>(r.x) + line_at(t + i);
        } else {
          const std::uint16_t* from = static_cast<const std::uint16_t*>(r.x) + line_at(t + i);
          int c = 0;
          for (; c + 16 <= n; c += 16) half_to_float(from + c, copy + c);
          if (c < n) {
            std::uint16_t halves[16] = {};
            float floats[16];
            __builtin_memcpy(halves, from + c, (n - c) * sizeof(std::uint16_t));
            half_to_float(halves, floats);
            __builtin_memcpy(copy + c, floats, (n - c) * sizeof(float));
          }
        }
      }
      int c = 0;
      for (; c + 4 <= n; c += 4) transpose_4x4(line, c, row_of(c) + t, row);
      for (; c < n; ++c) {
        for (int i = 0; i < 4; ++i) row_of(c)[t + i] = line[i][c];
      }
    }
  }
};
