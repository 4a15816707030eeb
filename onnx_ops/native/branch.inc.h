// The branch's first factor, down * x, by blocks of pixels or of Winograd tiles. Included after
// winograd.inc.h.

// Columns first + i of one row of x, 0 outside of it.
void gather(const float* row, std::int64_t width, std::int64_t first, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i < count && first + i < 0; ++i) to[i] = 0;
  const std::int64_t inside = width - first < count ? width - first : count;
  if (inside > i) {
    __builtin_memcpy(to + i, row + first + i, static_cast<std::size_t>(inside - i) * sizeof(float));
    i = inside;
  }
  for (; i < count; ++i) to[i] = 0;
}

// The same of a row each of whose values stands for two.
void gather_twice(const float* row, std::int64_t width, std::int64_t first, std::int64_t count, float* to) {
  constexpr std::make_integer_sequence<int, kWidth> kAll{};
  for (std::int64_t i = 0; i < count;) {
    const std::int64_t at = first + i;
    if (at >= 0 && at % 2 == 0 && i + 2 * kWidth <= count &&
        at + 2 * kWidth <= 2 * width) {
      const F values = load(row + at / 2);
      store(to + i, every_value_twice<0>(values, kAll));
      store(to + i + kWidth, every_value_twice<kWidth / 2>(values, kAll));
      i += 2 * kWidth;
    } else {
      to[i++] = at < 0 || at >= 2 * width ? 0 : row[at / 2];
    }
  }
}

template <int kVectors>
struct BranchBlock {
  static constexpr int kRanks = kVectors * kWidth, kPixels = kTaken<kVectors>;
  static_assert(2 * kPixels <= kBranchGathered, "pixels of a step of two have room");

  const ConvCall& c;
  const ConvPlan& plan;
  const ConvGeometry& g;
  float* values;  // (positions, branch_plane): kBranchChannels x low_block transformed; taps: what is gathered
  float* sums;    // (positions, low_block, kRanks)
  float* lines;   // (tile + 3, branch_line): zeros, then copies of rows of x
  std::int64_t begin = 0, count = 0, columns = 0;

  BranchBlock(const ConvCall& call, void* scratch)
      : c(call), plan(*call.plan), g(call.plan->geometry) {
    const BranchScratch layout = branch_scratch(call);
    char* base = static_cast<char*>(scratch);
    values = reinterpret_cast<float*>(base);
    sums = reinterpret_cast<float*>(base + layout.sums);
    lines = reinterpret_cast<float*>(base + layout.rows);
    // What vanishes is not written.
    if (plan.paired) __builtin_memset(sums, 0, layout.rows - layout.sums);
    // Lanes of no tile are computed too: what lay here could be denormal numbers, which take a CPU 100 cycles each.
    __builtin_memset(lines, 0, layout.bytes - layout.rows);
  }

  void run(std::int64_t item) {
    const int tile = plan.branch_tile;
    begin = item * c.low_block;
    columns = (c.out_width + tile - 1) / tile;
    const std::int64_t left = (c.rows + tile - 1) / tile * columns - begin;
    count = left < c.low_block ? left : c.low_block;
    for (int block = 0; block < plan.rank_blocks; ++block) {
      switch (tile) {
        case 1: run_taps(block); break;
        case 2: run_tiles<2>(block); break;
        default: run_tiles<4>(block);
      }
    }
  }

  // Tap by tap, kTaken pixels at once.
  void run_taps(int block) {
    const auto run = g.stride[1] == 2 ? &BranchBlock::run_pixels<2> : &BranchBlock::run_pixels<1>;
    for (std::int64_t p = 0; p < count; p += kPixels) {
      const std::int64_t left = count - p;
      (this->*run)(block, begin + p, left < kPixels ? left : kPixels);
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
      const int depth = depth_at(channel);
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
    const int copies = g.upsample == 2 ? 1 : 0;  // a shift: divisions would take longer than the products
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

  template <int kTile>
  void run_tiles(int block) {
    constexpr int kPositions = (kTile + 2) * (kTile + 2);
    for (std::int64_t channel = 0; channel < g.channels; channel += kBranchChannels) {
      const int depth = depth_at(channel);
      transform<kTile>(channel, depth);
      for (int p = 0; p < kPositions; ++p) {
        if (!vanishes(plan, p, kTile + 2)) multiply(block, p, channel, depth, channel > 0);
      }
    }
    finish_tiles<kTile>(block);
  }

  int depth_at(std::int64_t channel) const {
    const std::int64_t left = g.channels - channel;
    return static_cast<int>(left < kBranchChannels ? left : kBranchChannels);
  }

  const float* plane_of(std::int64_t channel) const {
    return c.x + (c.image * g.channels + channel) * c.height * c.width;
  }

  // The products of `position`, which are added to those of other channels or not.
  void multiply(int block, int position, std::int64_t channel, int depth, bool adds) {
    const std::int64_t at =
        (std::int64_t{block} * plan.branch_positions + position) * g.channels + channel;
    const float scale = adds ? 1 : 0;
    for (std::int64_t t = 0; t < count; t += kTaken<kVectors>) {
      float_product<kVectors>(values + position * branch_plane(c) + t, c.low_block, 1, depth, plan.down + at * kRanks,
                              scale, sums + (position * c.low_block + t) * kRanks);
    }
  }

  // Tiles of the block that follow each other in one row of the image.
  struct Run {
    std::int64_t tile, width;  // the first one in the block, and how many
    std::int64_t x;            // their first column
    std::int64_t at[6];        // where the rows that they see begin in a plane, or
  };
  static constexpr std::int64_t kZeros = -1, kAgain = -2;  // beyond the image; what the row before has

  template <int kTile>
  int find_runs(Run* runs) const {
    int found = 0;
    for (std::int64_t t = 0; t < count; t += runs[found++].width) {
      const std::int64_t row = (begin + t) / columns, column = (begin + t) % columns;
      Run& run = runs[found];
      run.tile = t;
      run.width = columns - column < count - t ? columns - column : count - t;
      run.x = kTile * column - g.pads[1];
      for (int i = 0; i < kTile + 2; ++i) {
        const std::int64_t y = c.row + kTile * row + i - g.pads[0];
        const bool again = i > 0 && y > 0 && y % g.upsample == 1;
        run.at[i] = y < 0 || y >= c.height * g.upsample ? kZeros : again ? kAgain : y / g.upsample * c.width;
      }
    }
    return found;
  }

  // V = B^T d B of every tile, for `depth` channels.
  template <int kTile>
  void transform(std::int64_t channel, int depth) {
    Run runs[kBranchPixels];
    const int count_of_runs = find_runs<kTile>(runs);
    for (int k = 0; k < depth; ++k) {
      float* to = values + k * c.low_block;
      clear_rest<kTile>(to);
      for (int i = 0; i < count_of_runs; ++i) {
        transform_tiles<kTile>(runs[i], plane_of(channel + k), k + 1 < depth, to + runs[i].tile);
      }
    }
  }

  // Those of one run, of a channel that another one follows or not.
  template <int kTile>
  ALWAYS_INLINE void transform_tiles(const Run& run, const float* plane, bool followed, float* to) {
    const std::int64_t line = branch_line(c), pixels = kTile * run.width + 2;
    const float* const end = c.x + c.images * g.channels * c.height * c.width;
    const bool inside = g.upsample == 1 && run.x >= 0 && run.x + pixels <= c.width;
    const float* rows[kTile + 2];
    for (int i = 0; i < kTile + 2; ++i) {
      float* copy = lines + (i + 1) * line;
      rows[i] = run.at[i] == kZeros ? lines : run.at[i] == kAgain ? rows[i - 1] : copy;
      if (run.at[i] < 0) continue;
      const float* from = plane + run.at[i];
      if (followed) {  // no CPU looks ahead to the next channel by itself
        const float* next = from + c.height * c.width + (run.x < 0 ? 0 : run.x >> (g.upsample - 1));
        for (std::int64_t p = 0; p < pixels >> (g.upsample - 1); p += 16) __builtin_prefetch(next + p);
      }
      if (inside && end - from >= run.x + line) {  // what whole vectors read beyond is not used
        rows[i] = from + run.x;
      } else if (g.upsample == 1) {
        gather(from, c.width, run.x, pixels, copy);
      } else {
        gather_twice(from, c.width, run.x, pixels, copy);
      }
    }
    transform_run<kTile>(rows, run.width, to);
  }

  // Zeros where the last product takes tiles that do not exist.
  template <int kTile>
  void clear_rest(float* to) const {
    if (count % kPixels == 0) return;
    for (std::int64_t t = count / kWidth * kWidth; t < count / kPixels * kPixels + kPixels; t += kWidth) {
      for (int p = 0; p < (kTile + 2) * (kTile + 2); ++p) store(to + p * branch_plane(c) + t, F{});
    }
  }

  template <int kTile>
  void transform_run(const float* const (&from)[kTile + 2], std::int64_t width, float* to) {
    constexpr int kEdge = kTile + 2;
    const std::int64_t plane = branch_plane(c);
    for (std::int64_t t = 0; t < width; t += kWidth) {
      F rows[kEdge][kTile + 1];  // transformed along columns
#pragma GCC unroll 5
      for (int j = 0; j < kTile + 1; ++j) {
        F d[kEdge], v[kEdge];
#pragma GCC unroll 6
        for (int i = 0; i < kEdge; ++i) d[i] = load(from[i] + kTile * t + j * kWidth);
        transform_input(d, v);
#pragma GCC unroll 6
        for (int i = 0; i < kEdge; ++i) rows[i][j] = v[i];
      }
#pragma GCC unroll 6
      for (int i = 0; i < kEdge; ++i) {
        F d[kEdge], v[kEdge];
        columns_of(rows[i], d);
        transform_input(d, v);
        float* at = to + kEdge * i * plane + t;
#pragma GCC unroll 6
        for (int j = 0; j < kEdge; ++j) store(at + j * plane, v[j]);
      }
    }
  }

  float* low_at(std::int64_t row, std::int64_t column, int block) const {
    return c.low + (row * c.out_width + column) * c.low_row + std::int64_t{block} * kRanks;
  }

  // Y = A^T M A, where M has the sums of all positions.
  template <int kTile>
  void finish_tiles(int block) {
    constexpr int kEdge = kTile + 2;
    const std::int64_t plane = c.low_block * kRanks;
    std::int64_t row = begin / columns * kTile, column = begin % columns * kTile - kTile;
    for (std::int64_t t = 0; t < count; ++t) {
      column += kTile;
      if (column == kTile * columns) {
        column = 0;
        row += kTile;
      }
      for (int f = 0; f < kRanks; f += kWidth) {
        F half[kTile][kEdge];
#pragma GCC unroll 6
        for (int j = 0; j < kEdge; ++j) {
          F m[kEdge], y[kTile];
#pragma GCC unroll 6
          for (int i = 0; i < kEdge; ++i) m[i] = load(sums + (kEdge * i + j) * plane + t * kRanks + f);
          transform_output(m, y);
#pragma GCC unroll 4
          for (int i = 0; i < kTile; ++i) half[i][j] = y[i];
        }
        for (int i = 0; i < kTile && row + i < c.rows; ++i) {
          F y[kTile];
          transform_output(half[i], y);
          for (int j = 0; j < kTile && column + j < c.out_width; ++j) {
            store(low_at(row + i, column + j, block) + f, y[j]);
          }
        }
      }
    }
  }
};

template <int kVectors>
void run_branch_blocks(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  if (call.plan->linear) return run_line_branch<kVectors>(call, first, last);
  BranchBlock<kVectors> block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
}

void run_branch(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  const auto run = call.plan->ranks == kWidth ? run_branch_blocks<1> : run_branch_blocks<2>;
  run(call, first, last, scratch);
}
