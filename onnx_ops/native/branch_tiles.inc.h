// The branch's first factor by Winograd's tiles of kTile x kTile pixels. Included after branch_block.inc.h.

template <int kVectors, int kTile>
struct TileBranch : BranchBlock {
  static constexpr int kRanks = kVectors * kWidth, kPixels = kTaken<kVectors>, kFewPixels = few(kPixels);
  static constexpr int kEdge = kTile + 2, kPositions = kEdge * kEdge;

  // Tiles of the block that follow each other in one row of the image.
  struct Run {
    std::int64_t tile, width;  // the first one in the block, and how many
    std::int64_t x;            // their first column
    std::int64_t at[kEdge];    // where the rows that they see begin in a plane, or
  };
  static constexpr std::int64_t kZeros = -1, kAgain = -2;  // beyond the image; what the row before has

  float* lines;  // (tile + 3, branch_line): zeros, then copies of rows of x
  float* down;   // (positions, depth, ranks): weights of some channels, transformed here
  I ends;        // lanes of the last tile of each row, where several rows of a narrow image share a vector
  Run runs[kBranchPixels];
  int run_count = 0;

  TileBranch(const ConvCall& call, void* scratch) : BranchBlock(call, scratch) {
    const BranchScratch layout = branch_scratch(call);
    lines = reinterpret_cast<float*>(static_cast<char*>(scratch) + layout.rows);
    down = reinterpret_cast<float*>(static_cast<char*>(scratch) + layout.down);
    // What vanishes is not written.
    if (plan.paired) __builtin_memset(sums, 0, layout.rows - layout.sums);
    // Lanes of no tile are computed too: what lay here could be denormal numbers, which take a CPU 100 cycles each.
    __builtin_memset(lines, 0, layout.down - layout.rows);
    for (int t = 0; t < kWidth; ++t) ends[t] = (t + 1) % columns == 0;
  }

  void run(std::int64_t item) {
    start(item / c.low_parts);
    find_runs();
    if (c.low_parts > 1) return run_part(item % c.low_parts);
    for (int block = 0; block < plan.rank_blocks; ++block) {
      run_channels(block, 0, g.channels, sums);
      finish_tiles(block);
    }
  }

  // Some of the channels; the last task to come so far adds up all of them.
  void run_part(std::int64_t part) {
    const std::int64_t first = g.channels * part / c.low_parts, last = g.channels * (part + 1) / c.low_parts;
    for (int block = 0; block < plan.rank_blocks; ++block) run_channels(block, first, last, part_sums(part, block));
    if (__atomic_sub_fetch(c.parts_left, 1, __ATOMIC_ACQ_REL) > 0) return;
    for (int block = 0; block < plan.rank_blocks; ++block) {
      join_parts(block);
      finish_tiles(block);
    }
  }

  float* part_sums(std::int64_t part, int block) const {
    return c.parts + (part * plan.rank_blocks + block) * kPositions * c.low_block * kRanks;
  }

  void join_parts(int block) {
    for (int p = 0; p < kPositions; ++p) {
      if (vanishes(plan, p, kEdge)) continue;
      const std::int64_t first = p * c.low_block * kRanks;
      for (std::int64_t i = first; i < first + count * kRanks; i += kWidth) {
        F sum = load(part_sums(0, block) + i);
        for (int part = 1; part < c.low_parts; ++part) sum += load(part_sums(part, block) + i);
        store(sums + i, sum);
      }
    }
  }

  // Channels first to last - 1, whose products go to `to` as `sums` has them.
  void run_channels(int block, std::int64_t first, std::int64_t last, float* to) {
    const std::int64_t most = tile_channels(c);
    for (std::int64_t channel = first; channel < last; channel += most) {
      const int depth = depth_at(channel, last, most);
      transform(channel, depth);
      if (transforms_down(c)) {
        transform_taps<kRanks>(plan.down_taps + (block * g.channels + channel) * 9 * kRanks, depth, down);
      }
      for (int p = 0; p < kPositions; ++p) {
        if (!vanishes(plan, p, kEdge)) multiply(weights_of(block, p, channel, depth), p, depth, channel > first, to);
      }
    }
  }

  const float* weights_of(int block, int position, std::int64_t channel, int depth) const {
    if (transforms_down(c)) return down + std::int64_t{position} * depth * kRanks;
    return plan.down + ((std::int64_t{block} * kPositions + position) * g.channels + channel) * kRanks;
  }

  // The products of `position`, which are added to those of other channels or not.
  void multiply(const float* weights, int position, int depth, bool adds, float* to) {
    std::int64_t t = 0;
    for (; t + kPixels <= count; t += kPixels) multiply_tiles<kPixels>(position, t, depth, weights, adds, to);
    for (; t < count; t += kFewPixels) multiply_tiles<kFewPixels>(position, t, depth, weights, adds, to);
  }

  template <int kCount>
  void multiply_tiles(int position, std::int64_t first, int depth, const float* weights, bool adds, float* to) {
    float_product<kVectors, kCount>(values + position * branch_plane(c) + first, c.low_block, 1, depth, weights,
                                    adds ? 1 : 0, to + (position * c.low_block + first) * kRanks);
  }

  void find_runs() {
    run_count = 0;
    for (std::int64_t t = 0; t < count; t += runs[run_count++].width) {
      const std::int64_t row = (begin + t) / columns, column = (begin + t) % columns;
      Run& run = runs[run_count];
      run.tile = t;
      run.width = columns - column < count - t ? columns - column : count - t;
      run.x = kTile * column - g.pads[1];
      for (int i = 0; i < kEdge; ++i) {
        const std::int64_t y = c.row + kTile * row + i - g.pads[0];
        const bool again = i > 0 && y > 0 && y % g.upsample == 1;
        run.at[i] = y < 0 || y >= c.height * g.upsample ? kZeros : again ? kAgain : y / g.upsample * c.width;
      }
    }
  }

  // V = B^T d B of every tile, for `depth` channels.
  void transform(std::int64_t channel, int depth) {
    for (int k = 0; k < depth; ++k) {
      float* to = values + k * c.low_block;
      clear_rest(to);
      for (int i = 0, taken = 0; i < run_count; i += taken) {
        taken = rows_at_once(i);
        if (taken > 1) {
          transform_rows(runs + i, taken, plane_of(channel + k), to + runs[i].tile);
        } else {
          transform_tiles(runs[i], plane_of(channel + k), k + 1 < depth, to + runs[i].tile);
        }
      }
    }
  }

  // This run and those after it that are rows of a narrow image and share a vector.
  int rows_at_once(int run) const {
    int rows = 1;
    while (run + rows < run_count && runs[run].width == columns && runs[run + rows].width == columns &&
           (rows + 1) * columns <= kWidth) {
      ++rows;
    }
    return rows;
  }

  // Columns x + i of a row of x, 0 outside of it.
  void copy_row(const float* from, std::int64_t x, std::int64_t pixels, float* to) const {
    g.upsample == 1 ? gather(from, c.width, x, pixels, to) : gather_twice(from, c.width, x, pixels, to);
  }

  // Tiles of several rows of a narrow image, one after the other.
  void transform_rows(const Run* run, int rows, const float* plane, float* to) {
    const std::int64_t line = branch_line(c), width = kTile * columns, pixels = width + 2;
    const float* from[kEdge];
    for (int i = 0; i < kEdge; ++i) from[i] = lines + (i + 1) * line;
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < kEdge; ++i) {
        float* copy = lines + (i + 1) * line + r * width;
        if (run[r].at[i] == kZeros) {
          for (std::int64_t p = 0; p < pixels; p += kWidth) store(copy + p, F{});
        } else if (run[r].at[i] == kAgain) {
          for (std::int64_t p = 0; p < pixels; p += kWidth) store(copy + p, load(copy - line + p));
        } else {
          copy_row(plane + run[r].at[i], run[r].x, pixels, copy);
        }
        float* beyond = lines + (i + 1) * line + kBeyond + (r + 1) * columns - 1;
        for (int j = 0; j < 2; ++j) beyond[j * kWidth] = copy[width + j];
      }
    }
    transform_run<true>(from, kWidth, to);
  }

  // Those of one run, of a channel that another one follows or not.
  ALWAYS_INLINE void transform_tiles(const Run& run, const float* plane, bool followed, float* to) {
    const std::int64_t line = branch_line(c), pixels = kTile * run.width + 2;
    const float* const end = c.x + c.images * g.channels * c.height * c.width;
    const bool inside = g.upsample == 1 && run.x >= 0 && run.x + pixels <= c.width;
    const float* rows[kEdge];
    for (int i = 0; i < kEdge; ++i) {
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
      } else {
        copy_row(from, run.x, pixels, copy);
      }
    }
    transform_run<false>(rows, run.width, to);
  }

  // Zeros where the last product takes tiles that do not exist.
  void clear_rest(float* to) const {
    if (count % kFewPixels == 0) return;
    for (int p = 0; p < kPositions; ++p) store(to + p * branch_plane(c) + count / kWidth * kWidth, F{});
  }

  // Where copies of rows that share a vector have what lies beyond them, from their first float on: behind room for
  // what whole vectors write.
  static constexpr int kBeyond = (kTile + 2) * kWidth;

  template <bool kNarrow>
  void transform_run(const float* const (&from)[kEdge], std::int64_t width, float* to) {
    const std::int64_t plane = branch_plane(c);
    for (std::int64_t t = 0; t < width; t += kWidth) {
      constexpr int kRead = kNarrow ? kTile + 2 : kTile + 1;
      F rows[kEdge][kRead];  // transformed along columns
#pragma GCC unroll 6
      for (int j = 0; j < kRead; ++j) {
        const std::int64_t at = kTile * t + (j < kTile || !kNarrow ? j * kWidth : kBeyond + (j - kTile) * kWidth);
        F d[kEdge], v[kEdge];
#pragma GCC unroll 6
        for (int i = 0; i < kEdge; ++i) d[i] = load(from[i] + at);
        transform_input(d, v);
#pragma GCC unroll 6
        for (int i = 0; i < kEdge; ++i) rows[i][j] = v[i];
      }
#pragma GCC unroll 6
      for (int i = 0; i < kEdge; ++i) {
        F d[kEdge], v[kEdge];
        own_columns(rows[i], d);
        if constexpr (kNarrow) {
          shared_columns(rows[i] + kTile, ends, d);
        } else {
          shared_columns(rows[i][kTile], d);
        }
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
  void finish_tiles(int block) {
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
