// Convolutions of codes by blocks of pixels, for any vector type. Included after expand.inc.h.

// Channels-first rows of codes become channels-last ones, with the zero point around them and in
// channels that do not exist.
void pad_rows(const ConvCall& c, std::int64_t first, std::int64_t last, void*) {
  if (c.plan->linear) return pad_lines(c, first, last);
  const ConvGeometry& g = c.plan->geometry;
  const int zero = c.plan->zero_point;
  const std::int64_t depth = c.padded_channels, row_bytes = c.padded_width * depth;
  const std::int64_t plane = c.height * c.width, step = g.upsample * depth;
  const std::int64_t height = c.height * g.upsample, width = c.width * g.upsample;
  for (std::int64_t item = first; item < last; ++item) {
    const std::int64_t row = c.row * g.stride[0] + item - g.pads[0];
    const bool inside = row >= 0 && row < height;
    std::uint8_t* to = c.padded + item * row_bytes;
    if (!inside || depth != g.channels) __builtin_memset(to, zero, row_bytes);
    if (!inside) continue;
    const std::int64_t left = g.pads[1], right = c.padded_width - left - width;
    __builtin_memset(to, zero, left * depth);
    if (right > 0) __builtin_memset(to + (left + width) * depth, zero, right * depth);
    const std::uint8_t* from = c.codes + c.image * g.channels * plane + row / g.upsample * c.width;
    to += left * depth;
    for (std::int64_t channel = 0; channel < g.channels; channel += 16) {
      const int channels = static_cast<int>(g.channels - channel < 16 ? g.channels - channel : 16);
      for (std::int64_t x = 0; x < c.width; x += 16) {
        const int count = static_cast<int>(c.width - x < 16 ? c.width - x : 16);
        const std::uint8_t* corner = from + channel * plane + x;
        std::uint8_t* pixel = to + x * step + channel;
        for (std::int64_t copy = 0; copy < g.upsample; ++copy, pixel += depth) {
          if (channels == 16 && count == 16) {
            transpose_bytes(corner, plane, pixel, step, 16);
            continue;
          }
          for (int i = 0; i < count; ++i) {
            for (int j = 0; j < channels; ++j) pixel[i * step + j] = corner[j * plane + i];
          }
        }
      }
    }
  }
}

// V = B^T d B of one tile of 4x4 pixels: sums and differences of codes, brought into the range of a
// byte by what `start` takes off again. Position p of channel c goes to to[p * plane + c].
void transform_tile(const std::uint8_t* from, std::ptrdiff_t row, std::ptrdiff_t depth, int top,
                    std::uint8_t* to, std::ptrdiff_t plane) {
  const B once = B{} + static_cast<std::uint8_t>(kSigned ? 0 : top);
  const B twice = once + once;
  const B most = B{} + static_cast<std::uint8_t>(kSigned ? 2 * top : 0);
  for (std::ptrdiff_t c = 0; c < depth; c += kBytes) {
    B v[4][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      B d[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) d[i] = load_as<B>(from + i * row + j * depth + c);
      v[0][j] = d[0] - d[2] + once;
      v[1][j] = d[1] + d[2];
      v[2][j] = d[2] - d[1] + once;
      v[3][j] = d[1] - d[3] + once;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      std::uint8_t* at = to + 4 * i * plane + c;
      store_as(at, v[i][0] - v[i][2] + twice);
      store_as(at + plane, i == 1 ? v[i][1] + v[i][2] - most : v[i][1] + v[i][2]);
      store_as(at + 2 * plane, v[i][2] - v[i][1] + twice);
      store_as(at + 3 * plane, v[i][1] - v[i][3] + twice);
    }
  }
}

struct ConvBlock {
  const ConvCall& c;
  const ConvPlan& plan;
  std::uint8_t* transformed;  // (16, block_pixels, tile_bytes)
  std::int32_t* sums;         // (16 or 1, block_pixels, kOutputs)
  float* steps;               // (1 or 2, pixels, kOutputs): codes less their zero point, then y
  std::int64_t begin = 0, count = 0;  // pixels or tiles of this block
  std::ptrdiff_t taps[kMaxTaps];

  ConvBlock(const ConvCall& call, void* scratch) : c(call), plan(*call.plan) {
    const ConvScratch layout = conv_scratch(call, kOutputs);
    char* base = static_cast<char*>(scratch);
    transformed = reinterpret_cast<std::uint8_t*>(base);
    sums = reinterpret_cast<std::int32_t*>(base + layout.sums);
    steps = reinterpret_cast<float*>(base + layout.steps);
    const std::int64_t width = plan.geometry.kernel[1];
    for (int i = 0; i < plan.positions; ++i) {
      taps[i] = (i / width * c.padded_width + i % width) * c.padded_channels;
    }
    const std::int64_t plane = c.block_pixels * kOutputs;
    for (int i = 0; plan.winograd && i < plan.positions; ++i) {  // nothing is written there
      if (vanishes(plan, i, 4)) __builtin_memset(sums + i * plane, 0, plane * sizeof *sums);
    }
  }

  template <Sums kSums>
  void run(std::int64_t item) {
    const std::int64_t group = item % c.groups, block = item / c.groups;
    begin = block * c.block_pixels;
    const std::int64_t rows = plan.winograd ? (c.rows + 1) / 2 : c.rows;
    const std::int64_t columns = plan.winograd ? (c.out_width + 1) / 2 : c.out_width;
    const std::int64_t left = rows * columns - begin;
    count = left < c.block_pixels ? left : c.block_pixels;
    const int first = static_cast<int>(c.first + c.band * group / c.groups);
    const int last = static_cast<int>(c.first + c.band * (group + 1) / c.groups);
    if (plan.winograd) transform(columns);
    for (int filters = first; filters < last; ++filters) {
      if (plan.winograd) {
        multiply_tiles<kSums>(filters);
        finish_tiles(filters, columns);
      } else {
        multiply_pixels<kSums>(filters);
        plan.linear ? finish_lines(filters) : finish_pixels(filters);
      }
    }
  }

  const std::uint8_t* padded_at(std::int64_t row, std::int64_t column) const {
    return c.pixels + (row * c.padded_width + column) * c.padded_channels;
  }

  std::int64_t tile_bytes() const { return c.padded_channels + kTileGap; }

  void transform(std::int64_t columns) {
    const std::int64_t depth = c.padded_channels;
    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t tile = begin + t;
      transform_tile(padded_at(tile / columns * 2, tile % columns * 2), c.padded_width * depth,
                     depth, plan.top, transformed + t * tile_bytes(),
                     c.block_pixels * tile_bytes());
    }
  }

  template <Sums kSums>
  void multiply_tiles(int filters) {
    const std::int8_t* weights = c.weights + (filters - c.first) * 16 * plan.position_bytes;
    for (int position = 0; position < 16; ++position) {
      if (vanishes(plan, position, 4)) continue;
      const std::int64_t at = std::int64_t{filters} * 16 + position;
      for (std::int64_t t = 0; t < count; t += kRows) {
        const std::uint8_t* rows[kRows];
        for (int r = 0; r < kRows; ++r) {
          rows[r] = transformed + (position * c.block_pixels + t + r) * tile_bytes();
        }
        byte_product<kSums>(rows, taps, 1, plan.steps, plan.chunk,
                            weights + position * plan.position_bytes, plan.start + at * kOutputs,
                            sums + (position * c.block_pixels + t) * kOutputs, kOutputs);
      }
    }
  }

  template <Sums kSums>
  void multiply_pixels(int filters) {
    const ConvGeometry& g = plan.geometry;
    const std::int64_t block_bytes = plan.positions * plan.position_bytes;
    for (std::int64_t p = 0; p < count; p += kRows) {
      const std::uint8_t* rows[kRows];
      for (int r = 0; r < kRows; ++r) {
        const std::int64_t pixel = begin + (p + r < count ? p + r : count - 1);
        rows[r] = padded_at(pixel / c.out_width * g.stride[0], pixel % c.out_width * g.stride[1]);
      }
      byte_product<kSums>(rows, taps, plan.positions, plan.steps, plan.chunk,
                          c.weights + (filters - c.first) * block_bytes,
                          plan.start + std::int64_t{filters} * plan.positions * kOutputs,
                          sums + p * kOutputs, kOutputs);
    }
  }

  // Output codes less their zero point, as floats.
  ALWAYS_INLINE F requantize(I total, int filters, int v) const {
    const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23: adding it rounds half to even
    const F low = F{} - static_cast<float>(plan.y_zero);
    const F high = low + 255.0f;
    const std::int64_t at = std::int64_t{filters} * kOutputs + v * kWidth;
    const I sum = total + load_as<I>(plan.bias + at);
    const F step = __builtin_convertvector(sum, F) * load(plan.multiplier + at);
    const F above = step > low ? step : low;
    return ((above < high ? above : high) + rounder) - rounder;
  }

  // Y = A^T M A / 4, where M has the sums of the 16 positions.
  void finish_tiles(int filters, std::int64_t columns) {
    const std::int64_t plane = c.block_pixels * kOutputs, row = 2 * plane;
    for (std::int64_t t = 0; t < count; ++t) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const std::int32_t* from = sums + t * kOutputs + v * kWidth;
        float* to = steps + 2 * t * kOutputs + v * kWidth;
        I above[4], below[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          I m[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) m[i] = load_as<I>(from + (4 * i + j) * plane);
          above[j] = m[0] + m[1] + m[2];
          below[j] = m[1] - m[2] - m[3];
        }
        store(to, requantize((above[0] + above[1] + above[2]) >> 2, filters, v));
        store(to + kOutputs, requantize((above[1] - above[2] - above[3]) >> 2, filters, v));
        store(to + row, requantize((below[0] + below[1] + below[2]) >> 2, filters, v));
        store(to + row + kOutputs, requantize((below[1] - below[2] - below[3]) >> 2, filters, v));
      }
    }
    for (std::int64_t t = 0; t < count;) {  // tiles of one row
      const std::int64_t y = (begin + t) / columns * 2, x = (begin + t) % columns * 2;
      std::int64_t tiles = columns - x / 2;
      if (tiles > count - t) tiles = count - t;
      const std::int64_t width = 2 * tiles < c.out_width - x ? 2 * tiles : c.out_width - x;
      for (int i = 0; i < 2 && y + i < c.rows; ++i) {
        emit(steps + i * row + 2 * t * kOutputs, width, (y + i) * c.out_width + x, filters);
      }
      t += tiles;
    }
  }

  void finish_pixels(int filters) {
    for (std::int64_t p = 0; p < count; ++p) {
      for (int v = 0; v < 2; ++v) {
        const std::int64_t at = p * kOutputs + v * kWidth;
        store(steps + at, requantize(load_as<I>(sums + at), filters, v));
      }
    }
    emit(steps, count, begin, filters);
  }

  void finish_lines(int filters) {
    const std::int64_t filter = std::int64_t{filters} * kOutputs, row = plan.geometry.filters;
    for (std::int64_t p = 0; p < count; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < kOutputs; v += kWidth) {
        const I sum = load_as<I>(sums + p * kOutputs + v) + load_as<I>(plan.bias + filter + v);
        const F product = __builtin_convertvector(sum, F) * load(plan.multiplier + filter + v);
        store(steps + p * kOutputs + v, product + load(plan.offset + filter + v));
      }
    }
    if (plan.rank > 0) add_branch(steps, count, begin * c.low_row, filters);
    const std::int64_t existing = row - filter < kOutputs ? row - filter : kOutputs;
    for (std::int64_t p = 0; p < count; ++p) {
      __builtin_memcpy(c.y + (begin + p) * row + filter, steps + p * kOutputs,
                       static_cast<std::size_t>(existing) * sizeof(float));
    }
  }

  // Steps become y_scale * steps + up @ low.
  void add_branch(float* rows, std::int64_t pixels, std::int64_t low_at, int filters) {
    const float* low = c.low + low_at;
    const float* up = plan.up + std::int64_t{filters} * kOutputs * plan.rank;
    std::int64_t p = 0;
    for (; p + kRows <= pixels; p += kRows) {
      float_product(low + p * c.low_row, 1, c.low_row, plan.rank, up, plan.y_scale,
                    rows + p * kOutputs);
    }
    for (; p < pixels; ++p) {
      float_product_of_one(low + p * c.low_row, plan.rank, up, plan.y_scale, rows + p * kOutputs);
    }
  }

  // Writes `pixels` rows of steps, those of the slab from `pixel` on, channels first.
  void emit(float* rows, std::int64_t pixels, std::int64_t pixel, int filters) {
    const std::int64_t plane = c.out_height * c.out_width;
    const std::int64_t filter = std::int64_t{filters} * kOutputs;
    const std::int64_t left = plan.geometry.filters - filter;
    const int existing = static_cast<int>(left < kOutputs ? left : kOutputs);
    const std::int64_t at = (c.image * plan.geometry.filters + filter) * plane;
    add_branch(rows, pixels, pixel * c.low_row, filters);
    float* y = c.y + at + c.row * c.out_width + pixel;
    // Four filters at a time: those of all would share a set of the first-level cache.
    for (int f = 0; f < existing; f += 4) {
      std::int64_t p = 0;
      for (; f + 4 <= existing && p + 4 <= pixels; p += 4) {
        const float* line[4];
        for (int i = 0; i < 4; ++i) line[i] = rows + (p + i) * kOutputs;
        transpose_4x4(line, f, y + f * plane + p, plane);
      }
      for (; p < pixels; ++p) {
        for (int i = f; i < f + 4 && i < existing; ++i) y[i * plane + p] = rows[p * kOutputs + i];
      }
    }
  }
};

template <Sums kSums>
void run_blocks(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  ConvBlock block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run<kSums>(item);
}

void run_conv(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  if (call.plan->wide) return run_blocks<Sums::kWide>(call, first, last, scratch);
  if (call.plan->chunk < kShortChunk) return run_blocks<Sums::kPairs>(call, first, last, scratch);
  run_blocks<Sums::kShort>(call, first, last, scratch);
}

constexpr ConvKernels kConvKernels = {kWidth,       kRows,    kNarrow,    kSigned, kMostCode,
                                     expand_steps, pad_rows, run_branch, run_conv};
