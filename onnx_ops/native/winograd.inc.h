// Winograd's transforms of float tiles, kWidth tiles in a vector, and of their weights; rows of x as tiles see them.
// Included after linear.inc.h.

// Every second value of a and b, beginning with value kFirst, within quarters of 16 bytes.
template <int kFirst, int... N>
ALWAYS_INLINE F every_second(F a, F b, std::integer_sequence<int, N...>) {
  return __builtin_shufflevector(a, b, (N % 4 / 2 * kWidth + N / 4 * 4 + N % 2 * 2 + kFirst)...);
}

// What every_second left within quarters, in the order of the tiles.
template <int kTile, int... N>
ALWAYS_INLINE F in_order(F v, std::integer_sequence<int, N...>) {
  constexpr int kRun = kWidth / kTile, kPart = 4 / kTile;  // tiles of a vector, of them in a quarter
  return __builtin_shufflevector(v, v, (N % kRun / kPart * 4 + N / kRun * kPart + N % kPart)...);
}

// kWidth / 2 values of v from value kFirst on, each of them twice.
template <int kFirst, int... N>
ALWAYS_INLINE F every_value_twice(F v, std::integer_sequence<int, N...>) {
  return __builtin_shufflevector(v, v, (kFirst + N / 2)...);
}

// One axis of the input's transform: B^T of F(2, 3) and of F(4, 3) at 0, 1, -1, 2, -2 and infinity.
ALWAYS_INLINE void transform_input(const F (&d)[4], F (&v)[4]) {
  v[0] = d[0] - d[2];
  v[1] = d[1] + d[2];
  v[2] = d[2] - d[1];
  v[3] = d[1] - d[3];
}

ALWAYS_INLINE void transform_input(const F (&d)[6], F (&v)[6]) {
  const F a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
  const F e = d[4] - d[2], f = d[3] - d[1];
  v[0] = d[4] - 5.0f * d[2] + 4.0f * d[0];
  v[1] = a + b;
  v[2] = a - b;
  v[3] = e + 2.0f * f;
  v[4] = e - 2.0f * f;
  v[5] = d[5] - 5.0f * d[3] + 4.0f * d[1];
}

// The same of the taps', G of F(4, 3).
ALWAYS_INLINE void transform_taps(const F (&g)[3], F (&u)[6]) {
  const F outer = (g[0] + g[2]) * (-1 / 6.0f), middle = g[1] * (1 / 6.0f);
  const F far = g[0] * (1 / 24.0f) + g[2] * (1 / 6.0f), near = g[1] * (1 / 12.0f);
  u[0] = g[0] * 0.25f;
  u[1] = outer - middle;
  u[2] = outer + middle;
  u[3] = far + near;
  u[4] = far - near;
  u[5] = g[2];
}

// The same of the output's, A^T.
ALWAYS_INLINE void transform_output(const F (&m)[4], F (&y)[2]) {
  y[0] = m[0] + m[1] + m[2];
  y[1] = m[1] - m[2] - m[3];
}

ALWAYS_INLINE void transform_output(const F (&m)[6], F (&y)[4]) {
  const F a = m[1] + m[2], b = m[1] - m[2], e = m[3] + m[4], f = m[3] - m[4];
  y[0] = m[0] + a + e;
  y[1] = b + 2.0f * f;
  y[2] = a + 4.0f * e;
  y[3] = b + 8.0f * f + m[5];
}

// All but the first value of v, then value kFirst of `next`.
template <int kFirst, int... N>
ALWAYS_INLINE F moved(F v, F next, std::integer_sequence<int, N...>) {
  return __builtin_shufflevector(v, next, (N + 1 < kWidth ? N + 1 : kWidth + kFirst)...);
}

// Columns of kWidth tiles in d, from a row of their pixels, but for the last two, which the next tiles begin with.
ALWAYS_INLINE void own_columns(const F* row, F (&d)[4]) {
  constexpr std::make_integer_sequence<int, kWidth> kAll{};
  d[0] = in_order<2>(every_second<0>(row[0], row[1], kAll), kAll);
  d[1] = in_order<2>(every_second<1>(row[0], row[1], kAll), kAll);
}

ALWAYS_INLINE void own_columns(const F* row, F (&d)[6]) {
  constexpr std::make_integer_sequence<int, kWidth> kAll{};
  const F even[] = {every_second<0>(row[0], row[1], kAll), every_second<0>(row[2], row[3], kAll)};
  const F odd[] = {every_second<1>(row[0], row[1], kAll), every_second<1>(row[2], row[3], kAll)};
  d[0] = in_order<4>(every_second<0>(even[0], even[1], kAll), kAll);
  d[1] = in_order<4>(every_second<0>(odd[0], odd[1], kAll), kAll);
  d[2] = in_order<4>(every_second<1>(even[0], even[1], kAll), kAll);
  d[3] = in_order<4>(every_second<1>(odd[0], odd[1], kAll), kAll);
}

// Those two: what `next` begins with follows the last tile.
template <int kEdge>
ALWAYS_INLINE void shared_columns(F next, F (&d)[kEdge]) {
  constexpr std::make_integer_sequence<int, kWidth> kAll{};
  d[kEdge - 2] = moved<0>(d[0], next, kAll);
  d[kEdge - 1] = moved<1>(d[1], next, kAll);
}

// The same where a row also ends at tiles whose lanes are set in `ends`: there the two are in `beyond`.
template <int kEdge>
ALWAYS_INLINE void shared_columns(const F* beyond, I ends, F (&d)[kEdge]) {
  shared_columns(F{}, d);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) d[kEdge - 2 + i] = ends != 0 ? beyond[i] : d[kEdge - 2 + i];
}

// U = G g G^T of the nine taps of `depth` channels, (depth, 9, kRanks), for tiles of 4x4 pixels: (36, depth, kRanks).
template <int kRanks>
void transform_taps(const float* taps, int depth, float* to) {
  for (int k = 0; k < depth; ++k, taps += 9 * kRanks, to += kRanks) {
    for (int f = 0; f < kRanks; f += kWidth) {
      F half[6][3];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        F column[3], u[6];
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) column[i] = load(taps + (3 * i + j) * kRanks + f);
        transform_taps(column, u);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) half[i][j] = u[i];
      }
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i) {
        F u[6];
        transform_taps(half[i], u);
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) store(to + (6 * i + j) * depth * kRanks + f, u[j]);
      }
    }
  }
}

// Columns first + i of one row of x, 0 outside of it, with room for whole vectors.
ALWAYS_INLINE void gather(const float* row, std::int64_t width, std::int64_t first, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i < count && first + i < 0; ++i) to[i] = 0;
  const std::int64_t inside = width - first < count ? width - first : count;
  for (; i + kWidth <= inside; i += kWidth) store(to + i, load(row + first + i));
  for (; i < count; i += kWidth) store(to + i, load_until(row + first + i, row + width));
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
