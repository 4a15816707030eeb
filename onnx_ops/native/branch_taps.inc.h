// The branch's first factor tap by tap, for any kernel and stride. Included after branch_block.inc.h.

template <int kVectors>
struct TapBranch : BranchBlock {
  static constexpr int kRanks = kVectors * kWidth, kPixels = kTaken<kVectors>;
  static_assert(2 * kPixels <= kBranchGathered, "pixels of a step of two have room");

  using BranchBlock::BranchBlock;

  void run(std::int64_t item) {
    start(item);
    const auto run = g.stride[1] == 2 ? &TapBranch::run_pixels<2> : &TapBranch::run_pixels<1>;
    for (int block = 0; block < plan.rank_blocks; ++block) {
      for (std::int64_t p = 0; p < count; p += kPixels) {
        const std::int64_t left = count - p;
        (this->*run)(block, begin + p, left < kPixels ? left : kPixels);
      }
    }
  }

  // Where the values that one tap sees are: from one channel to the next, and their weights.
  struct Seen {
    const float* from;
    std::int64_t row;
    const float* weights;
  };

  // The values of some pixels lie kStep floats apart: in x, or gathered so where not all of them are in one row of it.
  template <int kStep>
  void run_pixels(int block, std::int64_t pixel, std::int64_t pixels) {
    float* low = c.low + pixel * c.low_row + block * kRanks;
    const int taps = plan.branch_positions;
    std::int64_t at[kMaxTaps][kPixels];
    bool is_row[kMaxTaps];
    const std::int64_t row = (c.row + pixel / columns) * g.stride[0] - g.pads[0];
    const std::int64_t column = pixel % columns;
    for (int tap = 0, i = 0, j = 0; tap < taps; ++tap) {
      is_row[tap] = find<kStep>(row + i, column, j - g.pads[1], pixels, at[tap]);
      if (++j == g.kernel[1]) {
        j = 0;
        ++i;
      }
    }
    for (std::int64_t channel = 0; channel < g.channels; channel += kBranchChannels) {
      const int depth = depth_at(channel, g.channels, kBranchChannels);
      Seen seen[kMaxTaps];
      for (int tap = 0; tap < taps; ++tap) {
        const float* weights = plan.down + ((std::int64_t{block} * taps + tap) * g.channels + channel) * kRanks;
        if (is_row[tap]) {
          seen[tap] = {plane_of(channel) + at[tap][0], c.height * c.width, weights};
          continue;
        }
        constexpr std::int64_t kRow = kPixels * kStep;
        float* to = values + tap * kBranchChannels * kRow;
        seen[tap] = {to, kRow, weights};
        for (int k = 0; k < depth; ++k, to += kRow) {
          const float* plane = plane_of(channel + k);
          for (int p = 0; p < kPixels; ++p) to[p * kStep] = at[tap][p] < 0 ? 0 : plane[at[tap][p]];
        }
      }
      if (pixels == kPixels) {
        add_taps<kStep>(seen, taps, depth, channel > 0, low, c.low_row, std::make_integer_sequence<int, kPixels>{});
        continue;
      }
      add_taps<kStep>(seen, taps, depth, channel > 0, sums, kRanks, std::make_integer_sequence<int, kPixels>{});
      for (std::int64_t p = 0; p < pixels; ++p) {
        __builtin_memcpy(low + p * c.low_row, sums + p * kRanks, kRanks * sizeof(float));
      }
    }
  }

  // Where in a plane of x a tap sees the pixels from `column` on, of which the first one sees row `y`, below 0 where it
  // sees none; whether they lie kStep floats apart, and only the first one is set. `side` is what a tap is off a column.
  template <int kStep>
  bool find(std::int64_t y, std::int64_t column, std::int64_t side, std::int64_t pixels, std::int64_t* at) const {
    const int copies = static_cast<int>(g.upsample - 1);  // a shift: divisions would take longer than the products
    const std::int64_t height = c.height << copies, width = c.width << copies;
    std::int64_t x = column * g.stride[1] + side;
    if (copies == 0 && g.stride[1] == kStep && pixels == kPixels && column + kPixels <= columns && y >= 0 &&
        y < height && x >= 0 && x + (kPixels - 1) * kStep < width) {
      at[0] = y * width + x;
      return true;
    }
    for (int p = 0; p < kPixels; ++p) {
      const bool inside = p < pixels && y >= 0 && y < height && x >= 0 && x < width;
      at[p] = inside ? (y >> copies) * c.width + (x >> copies) : -1;
      x += g.stride[1];
      if (++column == columns) {
        column = 0;
        x = side;
        y += g.stride[0];
      }
    }
    return false;
  }

  // out = (adds ? out : 0) + sum over taps and channels of values times weights.
  template <int kStep, int... R>
  static void add_taps(const Seen* seen, int taps, int depth, bool adds, float* out, std::int64_t out_row,
                       std::integer_sequence<int, R...> pixels) {
    F low[kPixels] = {}, high[kPixels] = {};
    for (const Seen* s = seen; s < seen + taps; ++s) {
      sum_float_rows<kVectors, kRanks>(s->from, s->row, kStep, depth, s->weights, low, high, pixels);
    }
    const auto put = [&](float* to, F v) { store(to, adds ? load(to) + v : v); };
    (put(out + R * out_row, low[R]), ...);
    if constexpr (kVectors == 2) (put(out + R * out_row + kWidth, high[R]), ...);
  }
};
