// Winograd's transforms of float tiles, kWidth tiles in a vector. Included after linear.inc.h.

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
