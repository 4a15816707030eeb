// Products of matrices of bytes, for any vector type. Included after transpose.inc.h by one file
// per instruction set, which defines
//
//   Dotted           a vector of bytes: load_dotted(weights), four_codes(codes) or four_weights(weights) repeated
//   Dot<sums>        sums of products, four of them per filter and add(codes, weights); total()
//   add_product      sum += a * b, rounded once or twice
//   kSigned          whether it takes codes as signed bytes
//   kMostCode        largest code that it takes
//   kShortRun        fewer steps in int16 than this do not pay; 0 where Dot<kShort> holds int32
//   kRows            rows of codes taken at once
//
// No function here may have external linkage, as in tile.inc.h.

constexpr int kBytes = 4 * kWidth;  // of a vector: four channels of each filter
constexpr int kOutputs = 2 * kWidth;

// Rows taken at once of those that are fewer than `rows`: they divide it and a vector's width.
constexpr int few(int rows) { return rows % 3 == 0 ? rows / 3 : rows > 4 ? 4 : rows / 2; }

constexpr int kFewRows = few(kRows);

// The rows of one product, of kVectors of the block's two vectors of filters. Unrolled by the language: the
// compiler's own unrolling comes too late for it to keep the sums in registers.
template <Sums kSums, int kVectors = 2, int... R>
__attribute__((noinline)) void product_rows(const std::uint8_t* const* rows, std::ptrdiff_t offset, int count,
                                const std::int8_t* w, const std::int32_t* before,
                                std::ptrdiff_t before_row, std::int32_t* out,
                                std::ptrdiff_t out_row, std::integer_sequence<int, R...>) {
  constexpr int kCount = sizeof...(R);
  Dot<kSums> left[kCount] = {}, right[kCount] = {};
  // Counted up to 0: with twelve rows there is no register left for their end.
  const std::uint8_t* const from[kCount] = {rows[R] + offset + 4 * std::ptrdiff_t{count}...};
  const auto add = [&](const std::uint8_t* p, Dotted w0, Dotted w1, Dot<kSums>& a, Dot<kSums>& b) {
    const Dotted codes = four_codes(p);
    a.add(codes, w0);
    if constexpr (kVectors == 2) b.add(codes, w1);
  };
  for (std::ptrdiff_t at = -4 * std::ptrdiff_t{count}; at < 0; at += 4) {
    const Dotted w0 = load_dotted(w), w1 = load_dotted(w + (kVectors - 1) * kBytes);
    w += 2 * kBytes;
    (add(from[R] + at, w0, w1, left[R], right[R]), ...);
  }
  const auto finish = [&](int r, I a, I b) {
    const std::int32_t* sum = before + r * before_row;
    std::int32_t* to = out + r * out_row;
    store_as(to, load_as<I>(sum) + a);
    if constexpr (kVectors == 2) store_as(to + kWidth, load_as<I>(sum + kWidth) + b);
  };
  (finish(R, (I)left[R].total(), (I)right[R].total()), ...);
}

// Steps from `step` on up to the first one with a bit in `ends`, or to the last.
ALWAYS_INLINE int run_length(const std::uint64_t* ends, int step, int steps) {
  for (int at = step; at < steps; at = (at / 64 + 1) * 64) {
    const std::uint64_t word = ends[at / 64] >> at % 64;
    if (word != 0) return at + __builtin_ctzll(word) + 1 - step;
  }
  return steps - step;
}

// out[r][f] = start[f] + sum of rows[r][tap + c] * w[tap][c][f], for kCount rows. Rows and taps are
// in bytes. Sums of kShort reach int32 after the steps that have a bit in `ends`, of each tap.
template <Sums kSums, int kVectors, int kCount>
void byte_product(const std::uint8_t* const* rows, const std::ptrdiff_t* taps, int tap_count,
                  int steps, const std::uint64_t* ends, const std::int8_t* w, const std::int32_t* start,
                  std::int32_t* out, std::ptrdiff_t out_row) {
  const std::int32_t* before = start;
  for (int tap = 0; tap < tap_count; ++tap, ends += end_words(steps)) {
    for (int step = 0, count = 0; step < steps; step += count) {
      count = kSums == Sums::kShort ? run_length(ends, step, steps) : steps;
      product_rows<kSums, kVectors>(rows, taps[tap] + 4 * step, count, w, before,
                          before == start ? 0 : out_row, out, out_row,
                          std::make_integer_sequence<int, kCount>{});
      w += std::ptrdiff_t{count} * 2 * kBytes;
      before = out;
    }
  }
}

// sums[r] += a[k][r] * w[k][f] over k, for rows r and kVectors vectors v of f, one or two, the second one's sums in
// `more`; `a_row` is from one k to the next, as kRow is of w, `a_step` from one row to the next.
template <int kVectors, int kRow, int... R>
ALWAYS_INLINE void sum_float_rows(const float* a, std::ptrdiff_t a_row, std::ptrdiff_t a_step, int count,
                                  const float* w, F* sums, F* more, std::integer_sequence<int, R...>) {
  for (int k = 0; k < count; ++k) {
    const F w0 = load(w), w1 = load(w + (kVectors - 1) * kWidth);
    const auto add = [&](float value, F& low, F& high) {
      const F v = value - F{};  // not F{} + value, which would have to make 0 of -0
      add_product(low, v, w0);
      if constexpr (kVectors == 2) add_product(high, v, w1);
    };
    (add(a[R * a_step], sums[R], more[R]), ...);
    w += kRow;
    a += a_row;
  }
}

// put(r, v, sum) of these sums from 0 on, row by row.
template <int kVectors, int kRow = kVectors * kWidth, class Put, int... R>
ALWAYS_INLINE void float_rows(const float* a, std::ptrdiff_t a_row, std::ptrdiff_t a_step, int count,
                              const float* w, Put put, std::integer_sequence<int, R...> rows) {
  F left[sizeof...(R)] = {}, right[sizeof...(R)] = {};
  sum_float_rows<kVectors, kRow>(a, a_row, a_step, count, w, left, right, rows);
  const auto put_row = [&](int r) {
    put(r, 0, left[r]);
    if constexpr (kVectors == 2) put(r, 1, right[r]);
  };
  (put_row(R), ...);
}

// out[r][f] = scale * out[r][f] + sum of a[k][r] * w[k][f], with `out_row` from one row to the next. A scale
// of 0 does not read out.
template <int kVectors, int kRow = kVectors * kWidth, int... R>
ALWAYS_INLINE void add_float_rows(const float* a, std::ptrdiff_t a_row, std::ptrdiff_t a_step,
                                  int count, const float* w, float scale, float* out,
                                  std::ptrdiff_t out_row, std::integer_sequence<int, R...> rows) {
  const F factor = F{} + scale;
  const auto put = [&](int r, int v, F sum) {
    float* to = out + r * out_row + v * kWidth;
    store(to, scale != 0 ? load(to) * factor + sum : sum);
  };
  float_rows<kVectors, kRow>(a, a_row, a_step, count, w, put, rows);
}

// Rows of one product: sums of single vectors leave registers for more of them.
template <int kVectors>
constexpr int kTaken = kVectors == 1 ? kWidth : kRows;

template <int kVectors = 2, int kCount = kTaken<kVectors>>
void float_product(const float* a, std::ptrdiff_t a_row, std::ptrdiff_t a_step, int count,
                   const float* w, float scale, float* out, std::ptrdiff_t out_row = kVectors * kWidth) {
  add_float_rows<kVectors>(a, a_row, a_step, count, w, scale, out, out_row,
                           std::make_integer_sequence<int, kCount>{});
}

template <int kVectors = 2, int kRow = kVectors * kWidth>
void float_product_of_one(const float* a, int count, const float* w, float scale, float* out) {
  add_float_rows<kVectors, kRow>(a, 1, 0, count, w, scale, out, 0, std::make_integer_sequence<int, 1>{});
}
