// Convolutions of codes by blocks of pixels, for any vector type. Included after codes.inc.h.

struct ConvBlock {
  const ConvCall& c;
  const ConvPlan& plan;
  const ConvForm& form;
  std::int64_t* block_before;  // whose tiles are in `transformed`, which a task hands on with its scratch
  std::uint8_t* transformed;   // (positions, block_pixels, tile_bytes)
  std::int32_t* sums;         // (block_pixels, positions + gap or 1, kOutputs)
  float* steps;               // (edge, pixels, kOutputs): codes less their zero point; y of less than a block
  std::int64_t begin = 0, count = 0;  // pixels or tiles of this block
  int tap_count = 0, steps_of_tap;      // taps of a row are one where their codes lie side by side
  std::ptrdiff_t taps[kMaxTaps];
  const std::uint8_t* places[kMatrixPixels];  // of the codes that the first tap sees: pixels, and the last one again
#ifdef QUANTFACE_AMX
  std::optional<Matrices> matrices;  // where the form has a depth
#endif

  ConvBlock(const ConvCall& call, void* scratch) : c(call), plan(*call.plan), form(*call.form) {
#ifdef QUANTFACE_AMX
    if (form.depth > 0) matrices.emplace(form.depth);
#endif
    const ConvScratch layout = conv_scratch(call, kOutputs);
    char* base = static_cast<char*>(scratch);
    block_before = reinterpret_cast<std::int64_t*>(base);
    transformed = reinterpret_cast<std::uint8_t*>(base + layout.transformed);
    sums = reinterpret_cast<std::int32_t*>(base + layout.sums);
    steps = reinterpret_cast<float*>(base + layout.steps);
    const bool joined = c.padded_channels == 4 * plan.steps && (kShortRun == 0 || form.sums != Sums::kShort);
    const std::int64_t width = joined ? 1 : plan.geometry.kernel[1];
    steps_of_tap = plan.steps * static_cast<int>(plan.geometry.kernel[1] / width);
    for (std::int64_t i = 0; i < plan.geometry.kernel[0] * width; ++i, ++tap_count) {
      taps[i] = (i / width * c.padded_width + i % width) * c.padded_channels;
    }
    // What vanishes is not written.
    if (plan.paired && form.edge > 1) __builtin_memset(sums, 0, c.block_pixels * sums_row() * sizeof *sums);
  }

  void run(std::int64_t item) {
    const std::int64_t group = item % c.groups, block = item / c.groups;
    begin = block * c.block_pixels;
    const std::int64_t left = c.tile_rows * c.tile_columns - begin;
    count = left < c.block_pixels ? left : c.block_pixels;
    const int first = static_cast<int>(c.first + c.band * group / c.groups);
    const int last = static_cast<int>(c.first + c.band * (group + 1) / c.groups);
    switch (form.edge) {
      case 1: run_pixels(first, last); break;
      case 2: run_tiles<2>(block, first, last); break;
      default: run_tiles<4>(block, first, last);
    }
  }

  void run_pixels(int first, int last) {
    const ConvGeometry& g = plan.geometry;
    std::int64_t row = begin / c.out_width, column = begin % c.out_width;
    for (std::int64_t p = 0; p < c.block_pixels; ++p) {
      places[p] = p < count ? padded_at(row * g.stride[0], column * g.stride[1]) : places[p - 1];
      if (++column == c.out_width) {
        column = 0;
        ++row;
      }
    }
    if (c.joins_branch && plan.rank > 0) {
      const auto project = plan.ranks == kWidth ? project_lines<1> : project_lines<2>;
      project(c, begin, begin + count);
    }
    for (int filters = first; filters < last; ++filters) {
      multiply_pixels(filters);
      plan.linear ? finish_lines(filters) : finish_pixels(filters);
    }
  }

  template <int kEdge>
  void run_tiles(std::int64_t block, int first, int last) {
    if (*block_before != block) transform_tiles<kEdge>();
    *block_before = block;
    for (int filters = first; filters < last; ++filters) {
      multiply_tiles(filters);
      finish_tiles<kEdge>(filters);
    }
  }

  template <int kEdge>
  void transform_tiles() {
    const std::int64_t depth = c.padded_channels;
    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t tile = begin + t;
      transform_tile<kEdge>(padded_at(tile / c.tile_columns * kEdge, tile % c.tile_columns * kEdge),
                            c.padded_width * depth, depth, plan.top, transformed + t * tile_bytes(),
                            c.block_pixels * tile_bytes());
    }
  }

  const std::uint8_t* padded_at(std::int64_t row, std::int64_t column) const {
    return c.pixels + (row * c.padded_width + column) * c.padded_channels;
  }

  // Of a block of filters, those that exist.
  int existing(int filters) const {
    const std::int64_t left = plan.geometry.filters - std::int64_t{filters} * kOutputs;
    return static_cast<int>(left < kOutputs ? left : kOutputs);
  }

  std::int64_t sums_row() const { return sums_of_tile(form) * kOutputs; }

  std::int64_t tile_bytes() const { return c.padded_channels + kTileGap; }

  template <int kVectors, int kCount>
  auto product_of() const {
    return form.sums == Sums::kWide    ? byte_product<Sums::kWide, kVectors, kCount>
           : form.sums == Sums::kPairs ? byte_product<Sums::kPairs, kVectors, kCount>
                                       : byte_product<Sums::kShort, kVectors, kCount>;
  }

  const std::int8_t* weights_of(int filters) const { return c.weights + (filters - c.first) * block_bytes(form); }

  // Sums of `span` taps in a row, from one position's weights on, for the block's places.
  void multiply(int position, int span, int steps, int filters) const {
    std::int64_t r = 0;
    for (; r + kRows <= count; r += kRows) multiply_rows<kRows>(r, position, span, steps, filters);
    for (; r < count; r += kFewRows) multiply_rows<kFewRows>(r, position, span, steps, filters);
  }

  template <int kCount>
  void multiply_rows(std::int64_t first, int position, int span, int steps, int filters) const {
    const auto product = existing(filters) > kWidth ? product_of<2, kCount>() : product_of<1, kCount>();
    const std::int64_t start = std::int64_t{filters} * form.positions + position;
    product(places + first, taps, span, steps, form.ends + start * end_words(plan.steps),
            weights_of(filters) + position * form.position_bytes, form.start + start * kOutputs,
            sums + first * sums_row() + position * kOutputs, sums_row());
  }

  void multiply_tiles(int filters) {
    for (int position = 0; position < form.positions; ++position) {
      if (vanishes(plan, position, 4)) continue;
      for (std::int64_t t = 0; t < c.block_pixels; ++t) {
        places[t] = transformed + (position * c.block_pixels + t) * tile_bytes();
      }
      multiply(position, 1, plan.steps, filters);
    }
  }

  void multiply_pixels(int filters) {
#ifdef QUANTFACE_AMX
    if (form.depth > 0) {
      const auto product = existing(filters) > kWidth ? &Matrices::multiply<2> : &Matrices::multiply<1>;
      for (std::int64_t p = 0; p < count; p += kMatrixRows) {
        ((*matrices).*product)(places + p, taps, tap_count, steps_of_tap, weights_of(filters), sums + p * kOutputs,
                               kOutputs);
      }
      return;
    }
#endif
    multiply(0, tap_count, steps_of_tap, filters);
  }

  // What sums become: output codes less their zero point, as floats.
  struct Requantized {
    I bias;
    F multiplier, low, high;

    Requantized(const ConvPlan& plan, std::int64_t filter)
        : bias(load_as<I>(plan.bias + filter)),
          multiplier(load(plan.multiplier + filter)),
          low(F{} - static_cast<float>(plan.y_zero)),
          high(low + 255.0f) {}

    ALWAYS_INLINE F operator()(I total) const {
      const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23: adding it rounds half to even
      const F step = __builtin_convertvector(total + bias, F) * multiplier;
      const F above = step > low ? step : low;
      return ((above < high ? above : high) + rounder) - rounder;
    }
  };

  // Y = A^T M A, where M has the sums of all positions.
  template <int kEdge>
  void finish_tiles(int filters) {
    constexpr int kShift = kEdge == 2 ? 2 : 4;
    const std::int64_t row = kEdge * c.block_pixels * kOutputs;
    for (int v = 0; v < existing(filters); v += kWidth) {
      const Requantized requantized(plan, std::int64_t{filters} * kOutputs + v);
      for (std::int64_t t = 0; t < count; ++t) {
        const std::int32_t* from = sums + t * sums_row() + v;
        float* to = steps + kEdge * t * kOutputs + v;
        I y[kEdge][kEdge];
        transform_sums<kEdge>([&](int p) { return load_as<I>(from + p * kOutputs); }, y);
#pragma GCC unroll 4
        for (int i = 0; i < kEdge; ++i) {
#pragma GCC unroll 4
          for (int j = 0; j < kEdge; ++j) {
            store(to + i * row + j * kOutputs, requantized(y[i][j] >> kShift));
          }
        }
      }
    }
    for (std::int64_t t = 0; t < count;) {  // tiles of one row
      const std::int64_t y = (begin + t) / c.tile_columns * kEdge;
      const std::int64_t x = (begin + t) % c.tile_columns * kEdge;
      std::int64_t tiles = c.tile_columns - x / kEdge;
      if (tiles > count - t) tiles = count - t;
      const std::int64_t width = kEdge * tiles < c.out_width - x ? kEdge * tiles : c.out_width - x;
      for (int i = 0; i < kEdge && y + i < c.rows; ++i) {
        float* rows = steps + i * row + kEdge * t * kOutputs;
        emit(rows, width, (y + i) * c.out_width + x, filters,
             [&](int) { return [=](std::int64_t at) { return load(rows + at); }; });
      }
      t += tiles;
    }
  }

  void finish_pixels(int filters) {
    emit(steps, count, begin, filters, [&](int f) {
      const Requantized requantized(plan, std::int64_t{filters} * kOutputs + f);
      return [=](std::int64_t at) { return requantized(load_as<I>(sums + at)); };
    });
  }

  // Whether whole vectors go past the caches to rows of y that begin at `y`, `row` floats apart.
  bool streams_to(const float* y, std::int64_t row) const {
    return c.streams && reinterpret_cast<std::uintptr_t>(y) % sizeof(F) == 0 && row % kWidth == 0;
  }

  void finish_lines(int filters) {
    const std::int64_t filter = std::int64_t{filters} * kOutputs, row = plan.geometry.filters;
    const int found = existing(filters);
    float* y = c.y + begin * row + filter;
    const auto finish = found > kWidth ? &ConvBlock::finish_all_rows<2> : &ConvBlock::finish_all_rows<1>;
    (this->*finish)(filter, y, row, found, streams_to(y, row));
  }

  template <int kVectors>
  void finish_all_rows(std::int64_t filter, float* y, std::int64_t row, int found, bool streams) {
    std::int64_t p = 0;
    for (; p + kRows <= count; p += kRows) {
      finish_rows<kVectors>(p, filter, y, row, found, streams, std::make_integer_sequence<int, kRows>{});
    }
    for (; p < count; ++p) {
      finish_rows<kVectors>(p, filter, y, row, found, streams, std::make_integer_sequence<int, 1>{});
    }
  }

  // float(sum) * multiplier + offset + up @ low of the block's rows from `p` on.
  template <int kVectors, int... R>
  ALWAYS_INLINE void finish_rows(std::int64_t p, std::int64_t filter, float* y, std::int64_t row, int found,
                                 bool streams, std::integer_sequence<int, R...> rows) {
    const auto put = [&](int r, int v, F branch) {
      const std::int64_t at = filter + v * kWidth;
      const I sum = load_as<I>(sums + (p + r) * kOutputs + v * kWidth) + load_as<I>(plan.bias + at);
      const F product = __builtin_convertvector(sum, F) * load(plan.multiplier + at);
      const F value = product + load(plan.offset + at) + branch;
      float* to = y + (p + r) * row + v * kWidth;
      streams ? stream(to, value) : store_some(to, value, found - v * kWidth);
    };
    float_rows<kVectors, kOutputs>(c.low + (begin + p) * c.low_row, 1, c.low_row, plan.rank, plan.up + filter * plan.rank,
                  put, rows);
  }

  // Writes y_scale * step + up @ low of `pixels` pixels, those of the slab from `pixel` on, channels first. Steps of a
  // vector of filters from f on are steps_of(f)(at), with kOutputs from one pixel to the next; `rows` has room for them.
  template <class StepsOf>
  void emit(float* rows, std::int64_t pixels, std::int64_t pixel, int filters, StepsOf steps_of) {
    const std::int64_t plane = c.out_height * c.out_width;
    const std::int64_t filter = std::int64_t{filters} * kOutputs;
    const int found = existing(filters);
    float* y = c.y + (c.image * plan.geometry.filters + filter) * plane + c.row * c.out_width + pixel;
    const bool streams = streams_to(y, plane);
    const float* low = c.low + pixel * c.low_row;
    for (int f = 0; f < found; f += kWidth) {
      const auto step = steps_of(f);
      const float* up = plan.up + filter * plan.rank + f;
      const int width = found - f < kWidth ? found - f : kWidth;
      float* to = y + f * plane;
      std::int64_t p = 0;
      for (; p + kEmitted <= pixels; p += kEmitted) {
        emit_block([&](int r) { return step((p + r) * kOutputs + f); }, low + p * c.low_row, up, to + p, width,
                   streams, std::make_integer_sequence<int, kEmitted>{});
      }
      for (std::int64_t r = p; r < pixels; ++r) store(rows + r * kOutputs + f, step(r * kOutputs + f));
      put_rest(rows + f, low, up, p, pixels, width, to);
    }
  }

  // Pixels of a block: whole squares, and enough sums for products that wait for each other.
  static constexpr int kEmitted = kWidth < 8 ? 2 * kWidth : kWidth;

  template <class Step, int... R>
  ALWAYS_INLINE void emit_block(Step step, const float* low, const float* up, float* to, int width, bool streams,
                                std::integer_sequence<int, R...> all) const {
    F y[kEmitted];
    const F scale = F{} + plan.y_scale;
    const auto put = [&](int r, int, F sum) { y[r] = step(r) * scale + sum; };
    float_rows<1, kOutputs>(low, 1, c.low_row, plan.rank, up, put, all);
    for (int p = 0; p < kEmitted; p += kWidth) {
      transpose_square(y + p, to + p, c.out_height * c.out_width, width, streams);
    }
  }

  // Pixels first to last - 1 of `width` filters, fewer than a block.
  void put_rest(float* rows, const float* low, const float* up, std::int64_t first, std::int64_t last, int width,
                float* y) const {
    const std::int64_t plane = c.out_height * c.out_width;
    for (std::int64_t p = first; p < last; ++p) {
      float_product_of_one<1, kOutputs>(low + p * c.low_row, plan.rank, up, plan.y_scale, rows + p * kOutputs);
    }
    for (int f = 0; f < width; f += 4) {
      std::int64_t p = first;
      for (; f + 4 <= width && p + 4 <= last; p += 4) {
        const float* line[4];
        for (int i = 0; i < 4; ++i) line[i] = rows + (p + i) * kOutputs;
        transpose_4x4(line, f, y + f * plane + p, plane);
      }
      for (; p < last; ++p) {
        for (int i = f; i < f + 4 && i < width; ++i) y[i * plane + p] = rows[p * kOutputs + i];
      }
    }
  }
};

void run_conv(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  ConvBlock block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
  if (call.streams) fence();
}

constexpr ConvKernels kConvKernels = {kWidth,    kRows,     kFewRows,     kMatrixRows, kShortRun,  kSigned,
                                      kMostCode, mark_sums, expand_steps, pad_rows,    run_branch, run_conv};
