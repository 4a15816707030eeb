// Small transpositions between channels-first rows and channels-last pixels.

typedef float Quad __attribute__((vector_size(16)));
typedef std::uint8_t Bytes __attribute__((vector_size(16)));

// to[i * stride + j] = v[j][i], for i and j below 4.
ALWAYS_INLINE void transpose_quads(const Quad* v, float* to, std::ptrdiff_t stride) {
  const Quad ab_low = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
  const Quad ab_high = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const Quad cd_low = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
  const Quad cd_high = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  const Quad out[4] = {
      __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
      __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
      __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
      __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7),
  };
  for (int i = 0; i < 4; ++i) __builtin_memcpy(to + i * stride, &out[i], 16);
}

// to[i * stride + j] = line[j][offset + i], for i and j below 4.
ALWAYS_INLINE void transpose_4x4(const float* const* line, std::ptrdiff_t offset, float* to,
                                 std::ptrdiff_t stride) {
  Quad v[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) __builtin_memcpy(&v[j], line[j] + offset, 16);
  transpose_quads(v, to, stride);
}

template <int kFirst, int... N>
ALWAYS_INLINE F interleaved(F a, F b, std::integer_sequence<int, N...>) {
  return __builtin_shufflevector(a, b, (N % 2 * kWidth + kFirst + N / 2)...);
}

// to[i * to_row + j] = a[j][i], for j below kWidth and i below rows. Each round interleaves rows j and
// j + kWidth / 2, which rotates the bits of (row, column) by one.
ALWAYS_INLINE void transpose_square(F* a, float* to, std::ptrdiff_t to_row, int rows, bool streams) {
  constexpr std::make_integer_sequence<int, kWidth> kAll{};
  constexpr int kHalf = kWidth / 2;
  F b[kWidth];
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
#pragma GCC unroll 8
    for (int j = 0; j < kHalf; ++j) {
      b[2 * j] = interleaved<0>(a[j], a[j + kHalf], kAll);
      b[2 * j + 1] = interleaved<kHalf>(a[j], a[j + kHalf], kAll);
    }
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) a[j] = b[j];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) {
    if (i < rows) streams ? stream(to + i * to_row, a[i]) : store(to + i * to_row, a[i]);
  }
}

// The same of from[j * from_row + i].
ALWAYS_INLINE void transpose_square(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row) {
  F a[kWidth];
#pragma GCC unroll 16
  for (int j = 0; j < kWidth; ++j) a[j] = load(from + j * from_row);
  transpose_square(a, to, to_row, kWidth, false);
}

// The same of bytes, for i below count and j below 16: of rows from kRows on, `fill`.
template <int kRows = 16>
ALWAYS_INLINE void transpose_bytes(const std::uint8_t* from, std::ptrdiff_t from_row,
                                   std::uint8_t* to, std::ptrdiff_t to_row, int count, int fill = 0) {
  Bytes a[16], b[16];
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) {
    a[j] = Bytes{} + static_cast<std::uint8_t>(fill);
    if (j < kRows) __builtin_memcpy(&a[j], from + j * from_row, 16);
  }
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      b[2 * j] = __builtin_shufflevector(a[j], a[j + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                         6, 22, 7, 23);
      b[2 * j + 1] = __builtin_shufflevector(a[j], a[j + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                             13, 29, 14, 30, 15, 31);
    }
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) a[j] = b[j];
  }
  for (int i = 0; i < count; ++i) __builtin_memcpy(to + i * to_row, &a[i], 16);
}
