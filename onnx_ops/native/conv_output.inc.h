// What convolutions make of their sums: codes, and of those and the branch y, channels first. Included after
// codes.inc.h.

struct ConvOutput {
  const ConvCall& c;
  const ConvPlan& plan;

  // Of a block of filters, those that exist.
  int existing(int filters) const {
    const std::int64_t left = plan.geometry.filters - std::int64_t{filters} * kOutputs;
    return static_cast<int>(left < kOutputs ? left : kOutputs);
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

  // Whether whole vectors go past the caches to rows of y that begin at `y`, `row` floats apart.
  bool streams_to(const float* y, std::int64_t row) const { return c.streams && can_stream(y, row); }

  // Writes y_scale * step + up @ low of `pixels` pixels, those of the slab from `pixel` on, channels first. Steps of a
  // vector of filters from f on are steps_of(f)(at), with kOutputs from one pixel to the next; `rows` has room for them.
  template <class StepsOf>
  void emit(float* rows, std::int64_t pixels, std::int64_t pixel, int filters, StepsOf steps_of) {
    const std::int64_t plane = c.out_height * c.out_width;
    const std::int64_t filter = std::int64_t{filters} * kOutputs;
    const int found = existing(filters);
    float* y = c.y + (c.image * plan.geometry.filters + filter) * plane + c.row * c.out_width + pixel;
    const bool streams = kWholeLines && streams_to(y, plane);
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

  // The same of steps that are in `rows` already.
  void emit_steps(float* rows, std::int64_t pixels, std::int64_t pixel, int filters) {
    emit(rows, pixels, pixel, filters, [&](int) { return [=](std::int64_t at) { return load(rows + at); }; });
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
