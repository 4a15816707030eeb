// Convolutions of codes by blocks of pixels, for any vector type. Included after conv_output.inc.h.

struct ConvBlock : ConvOutput {
  const ConvForm& form;
  std::int64_t* block_before;  // whose tiles are in `transformed`: tasks hand on their scratch
  std::uint8_t* transformed;   // (positions, block_pixels, tile_bytes)
  std::int32_t* sums;          // (block_pixels, positions + gap or 1, kOutputs)
  float* steps;                // (edge, pixels, kOutputs): codes less their zero point; y of less than a block
  float* low;                  // (block_pixels, low_row): of a linear layer that joins its branch
  std::int64_t begin = 0, count = 0;  // pixels or tiles of this block
  int tap_count = 0, steps_of_tap;      // taps of a row are one where their codes lie side by side
  std::ptrdiff_t taps[kMaxTaps];
  const std::uint8_t* places[kMatrixPixels];  // of the codes that the first tap sees: pixels, and the last one again
#ifdef QUANTFACE_AMX
  std::optional<Matrices> matrices;  // where the form has a depth
#endif

  ConvBlock(const ConvCall& call, void* scratch) : ConvOutput{call, *call.plan}, form(*call.form) {
#ifdef QUANTFACE_AMX
    if (form.depth > 0) matrices.emplace(form.depth);
#endif
    const ConvScratch layout = conv_scratch(call, kOutputs);
    char* base = static_cast<char*>(scratch);
    block_before = reinterpret_cast<std::int64_t*>(base);
    transformed = reinterpret_cast<std::uint8_t*>(base + layout.transformed);
    sums = reinterpret_cast<std::int32_t*>(base + layout.sums);
    steps = reinterpret_cast<float*>(base + layout.steps);
    low = reinterpret_cast<float*>(base + layout.low);
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
      case 1:
        if (c.joins_branch) project_lines(c, begin, begin + count, low);
        run_pixels(first, last);
        break;
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

  // Whether the block's tiles are rows of an image without halves of tiles: its pixels then follow each other.
  bool takes_whole_rows(int edge) const {
    return c.tile_columns * edge == c.out_width && c.tile_rows * edge == c.rows && begin % c.tile_columns == 0 &&
           count % c.tile_columns == 0;
  }

  // Y = A^T M A, where M has the sums of all positions.
  template <int kEdge>
  void finish_tiles(int filters) {
    constexpr int kShift = kEdge == 2 ? 2 : 4;
    const bool whole = takes_whole_rows(kEdge);
    const std::int64_t row = (whole ? c.out_width : kEdge * c.block_pixels) * kOutputs;
    for (int v = 0; v < existing(filters); v += kWidth) {
      const Requantized requantized(plan, std::int64_t{filters} * kOutputs + v);
      for (std::int64_t t = 0; t < count; ++t) {
        const std::int32_t* from = sums + t * sums_row() + v;
        const std::int64_t above = whole ? t / c.tile_columns * c.tile_columns * (kEdge - 1) : 0;
        float* to = steps + kEdge * (t + above) * kOutputs + v;
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
    if (whole) return emit_steps(steps, kEdge * kEdge * count, kEdge * kEdge * begin, filters);
    for (std::int64_t t = 0; t < count;) {  // tiles of one row
      const std::int64_t y = (begin + t) / c.tile_columns * kEdge;
      const std::int64_t x = (begin + t) % c.tile_columns * kEdge;
      std::int64_t tiles = c.tile_columns - x / kEdge;
      if (tiles > count - t) tiles = count - t;
      const std::int64_t width = kEdge * tiles < c.out_width - x ? kEdge * tiles : c.out_width - x;
      for (int i = 0; i < kEdge && y + i < c.rows; ++i) {
        emit_steps(steps + i * row + kEdge * t * kOutputs, width, (y + i) * c.out_width + x, filters);
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

  void finish_lines(int filters) {
    const std::int64_t filter = std::int64_t{filters} * kOutputs, row = plan.geometry.filters;
    const int found = existing(filters);
    float* y = c.y + begin * row + filter;
    const auto finish = found > kWidth ? &ConvBlock::finish_all_rows<2> : &ConvBlock::finish_all_rows<1>;
    (this->*finish)(filter, y, row, found, streams_to(y, row));
  }

  // What sums of a linear layer become, but for their branch.
  struct Scaled {
    I bias;
    F multiplier, offset;

    Scaled(const ConvPlan& plan, std::int64_t filter)
        : bias(load_as<I>(plan.bias + filter)),
          multiplier(load(plan.multiplier + filter)),
          offset(load(plan.offset + filter)) {}

    ALWAYS_INLINE F operator()(I sum) const { return __builtin_convertvector(sum + bias, F) * multiplier + offset; }
  };

  template <int kVectors>
  void finish_all_rows(std::int64_t filter, float* y, std::int64_t row, int found, bool streams) {
    const Scaled scaled[2] = {{plan, filter}, {plan, filter + (kVectors - 1) * kWidth}};
    const float* up = plan.up + filter * plan.rank;
    const std::int64_t low_row = c.low_row;
    const float* line = c.joins_branch ? low : c.low + begin * low_row;
    const auto finish = [&](std::int64_t p, auto rows) {
      const std::int32_t* from = sums + p * kOutputs;
      float* to = y + p * row;
      const auto put = [&](int r, int v, F branch) {
        const F value = scaled[v](load_as<I>(from + r * kOutputs + v * kWidth)) + branch;
        streams ? stream(to + r * row + v * kWidth, value)
                : store_some(to + r * row + v * kWidth, value, found - v * kWidth);
      };
      float_rows<kVectors, kOutputs>(line + p * low_row, 1, low_row, plan.rank, up, put, rows);
    };
    std::int64_t p = 0;
    for (; p + kRows <= count; p += kRows) finish(p, std::make_integer_sequence<int, kRows>{});
    for (; p < count; ++p) finish(p, std::make_integer_sequence<int, 1>{});
  }
};

void run_conv(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  ConvBlock block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
  if (call.streams) fence();
}

constexpr ConvKernels kConvKernels = {kWidth,    kRows,     kFewRows,     kMatrixRows, kShortRun,  kSigned,
                                      kMostCode, mark_sums, expand_steps, pad_rows,    run_branch, run_conv};
