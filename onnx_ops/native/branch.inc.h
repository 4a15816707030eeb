// The branch's first factor, down * x, by blocks of pixels or of Winograd tiles. Included after
// linear.inc.h.

// Columns first + stride * i of one row of x, 0 outside of it.
void gather(const float* row, std::int64_t width, std::int64_t first, std::int64_t stride,
            std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i < count && first + stride * i < 0; ++i) to[i] = 0;
  std::int64_t inside = first >= width ? 0 : (width - 1 - first) / stride + 1;
  if (inside > count) inside = count;
  if (stride == 1 && inside > i) {
    __builtin_memcpy(to + i, row + first + i, static_cast<std::size_t>(inside - i) * sizeof(float));
    i = inside;
  }
  for (; i < inside; ++i) to[i] = row[first + stride * i];
  for (; i < count; ++i) to[i] = 0;
}

// Every second value of a and b, beginning with value kFirst, within quarters of 16 bytes: the cheap
// order, which in_order mends.
template <int kFirst, int... N>
ALWAYS_INLINE F every_second(F a, F b, std::integer_sequence<int, N...>) {
  return __builtin_shufflevector(a, b, (N % 4 / 2 * kWidth + N / 4 * 4 + N % 2 * 2 + kFirst)...);
}

template <int... N>
ALWAYS_INLINE F in_order(F v, std::integer_sequence<int, N...>) {
  return __builtin_shufflevector(
      v, v, (N % (kWidth / 2) / 2 * 4 + N / (kWidth / 2) * 2 + N % 2)...);
}

struct BranchBlock {
  const ConvCall& c;
  const ConvPlan& plan;
  const ConvGeometry& g;
  float* values;  // (16 or 1, kBranchChannels, low_block): transformed, or one tap's
  float* sums;    // (16 or 1, low_block, kOutputs)
  float* lines;   // (4, line_floats): rows of x
  std::int64_t image = 0, begin = 0, count = 0, columns = 0;

  BranchBlock(const ConvCall& call, void* scratch)
      : c(call), plan(*call.plan), g(call.plan->geometry) {
    const BranchScratch layout = branch_scratch(call, kOutputs);
    char* base = static_cast<char*>(scratch);
    values = reinterpret_cast<float*>(base);
    sums = reinterpret_cast<float*>(base + layout.sums);
    lines = reinterpret_cast<float*>(base + layout.rows);
    __builtin_memset(scratch, 0, layout.bytes);  // tiles that do not exist stay finite
  }

  void run(std::int64_t item) {
    image = item / c.low_blocks;
    begin = item % c.low_blocks * c.low_block;
    const bool tiles = plan.branch_winograd;
    columns = tiles ? (c.out_width + 1) / 2 : c.out_width;
    const std::int64_t left = (tiles ? (c.out_height + 1) / 2 : c.out_height) * columns - begin;
    count = left < c.low_block ? left : c.low_block;
    for (int block = 0; block < plan.rank_blocks; ++block) {
      const std::int64_t positions = tiles ? 16 : 1;
      __builtin_memset(sums, 0, sizeof(float) * positions * c.low_block * kOutputs);
      for (std::int64_t channel = 0; channel < g.channels; channel += kBranchChannels) {
        const std::int64_t rest = g.channels - channel;
        const int depth = static_cast<int>(rest < kBranchChannels ? rest : kBranchChannels);
        if (tiles) {
          transform(channel, depth);
          for (int p = 0; p < 16; ++p) multiply(block, p, p, channel, depth);
        } else {
          for (int p = 0; p < plan.branch_positions; ++p) {
            collect(p, channel, depth);
            multiply(block, p, 0, channel, depth);
          }
        }
      }
      if (tiles) {
        finish_tiles(block);
      } else {
        finish_pixels(block);
      }
    }
  }

  const float* plane_of(std::int64_t channel) const {
    return c.x + (image * g.channels + channel) * c.height * c.width;
  }

  // Adds the products of `position`, whose values lie in plane `plane`.
  void multiply(int block, int position, int plane, std::int64_t channel, int depth) {
    const std::int64_t at =
        (std::int64_t{block} * plan.branch_positions + position) * g.channels + channel;
    for (std::int64_t t = 0; t < count; t += kRows) {
      float_product(values + plane * kBranchChannels * c.low_block + t, c.low_block, 1, depth,
                    plan.down + at * kOutputs, 1, sums + (plane * c.low_block + t) * kOutputs);
    }
  }

  // The pixels that one tap sees.
  void collect(int tap, std::int64_t channel, int depth) {
    const std::int64_t dy = tap / g.kernel[1] - g.pads[0], dx = tap % g.kernel[1] - g.pads[1];
    for (int k = 0; k < depth; ++k) {
      const float* plane = plane_of(channel + k);
      for (std::int64_t p = 0; p < count;) {
        const std::int64_t row = (begin + p) / columns, column = (begin + p) % columns;
        const std::int64_t width = columns - column < count - p ? columns - column : count - p;
        const std::int64_t y = row * g.stride[0] + dy;
        float* to = values + k * c.low_block + p;
        if (y < 0 || y >= c.height) {
          __builtin_memset(to, 0, static_cast<std::size_t>(width) * sizeof(float));
        } else {
          gather(plane + y * c.width, c.width, column * g.stride[1] + dx, g.stride[1], width, to);
        }
        p += width;
      }
    }
  }

  // V = B^T d B of every tile, for `depth` channels.
  void transform(std::int64_t channel, int depth) {
    const std::int64_t line = branch_line(c);
    for (int k = 0; k < depth; ++k) {
      const float* plane = plane_of(channel + k);
      for (std::int64_t t = 0; t < count;) {
        const std::int64_t row = (begin + t) / columns, column = (begin + t) % columns;
        const std::int64_t width = columns - column < count - t ? columns - column : count - t;
        const std::int64_t x = 2 * column - g.pads[1];
        for (int i = 0; i < 4; ++i) {
          const std::int64_t y = 2 * row + i - g.pads[0];
          float* to = lines + i * line;
          if (y < 0 || y >= c.height) {
            __builtin_memset(to, 0, sizeof(float) * line);
            continue;
          }
          const float* from = plane + y * c.width;
          if (k + 1 < depth) {  // no CPU looks ahead to the next channel by itself
            const float* next = from + c.height * c.width + (x < 0 ? 0 : x);
            for (std::int64_t p = 0; p < 2 * width; p += 16) __builtin_prefetch(next + p);
          }
          gather(from, c.width, x, 1, 2 * width + 2, to);
        }
        transform_run(width, values + k * c.low_block + t);
        t += width;
      }
    }
  }

  void transform_run(std::int64_t width, float* to) {
    constexpr std::make_integer_sequence<int, kWidth> kAll{};
    const std::int64_t line = branch_line(c), plane = kBranchChannels * c.low_block;
    for (std::int64_t t = 0; t < width; t += kWidth) {
      F v[4][4];  // rows transformed, then columns of every second pixel
#pragma GCC unroll 2
      for (int j = 0; j < 4; j += 2) {  // pixels 2 t and on, then 2 t + 2 and on
        F r[4][2];
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          F d[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) d[i] = load(lines + i * line + 2 * t + j + half * kWidth);
          r[0][half] = d[0] - d[2];
          r[1][half] = d[1] + d[2];
          r[2][half] = d[2] - d[1];
          r[3][half] = d[1] - d[3];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          v[i][j] = every_second<0>(r[i][0], r[i][1], kAll);
          v[i][j + 1] = every_second<1>(r[i][0], r[i][1], kAll);
        }
      }
      const std::int64_t rest = width - t;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        float* at = to + 4 * i * plane + t;
        put(at, in_order(v[i][0] - v[i][2], kAll), rest);
        put(at + plane, in_order(v[i][1] + v[i][2], kAll), rest);
        put(at + 2 * plane, in_order(v[i][2] - v[i][1], kAll), rest);
        put(at + 3 * plane, in_order(v[i][1] - v[i][3], kAll), rest);
      }
    }
  }

  // The first `count` values of a vector.
  static ALWAYS_INLINE void put(float* to, F v, std::int64_t count) {
    if (count >= kWidth) return store(to, v);
    __builtin_memcpy(to, &v, static_cast<std::size_t>(count) * sizeof(float));
  }

  float* low_at(std::int64_t row, std::int64_t column, int block) const {
    const std::int64_t pixel = (image * c.out_height + row) * c.out_width + column;
    return c.low + pixel * c.low_row + std::int64_t{block} * kOutputs;
  }

  // Y = A^T M A, where M has the sums of the 16 positions.
  void finish_tiles(int block) {
    const std::int64_t plane = c.low_block * kOutputs;
    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t row = (begin + t) / columns * 2, column = (begin + t) % columns * 2;
      const bool right = column + 1 < c.out_width, below = row + 1 < c.out_height;
      for (int v = 0; v < kOutputs; v += kWidth) {
        F a[4], b[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          F m[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) m[i] = load(sums + (4 * i + j) * plane + t * kOutputs + v);
          a[j] = m[0] + m[1] + m[2];
          b[j] = m[1] - m[2] - m[3];
        }
        store(low_at(row, column, block) + v, a[0] + a[1] + a[2]);
        if (right) store(low_at(row, column + 1, block) + v, a[1] - a[2] - a[3]);
        if (below) store(low_at(row + 1, column, block) + v, b[0] + b[1] + b[2]);
        if (right && below) store(low_at(row + 1, column + 1, block) + v, b[1] - b[2] - b[3]);
      }
    }
  }

  void finish_pixels(int block) {
    for (std::int64_t p = 0; p < count; ++p) {
      const std::int64_t pixel = begin + p;
      __builtin_memcpy(low_at(pixel / columns, pixel % columns, block), sums + p * kOutputs,
                       kOutputs * sizeof(float));
    }
  }
};

void run_branch(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  if (call.plan->linear) return run_line_branch(call, first, last);
  BranchBlock block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
}
