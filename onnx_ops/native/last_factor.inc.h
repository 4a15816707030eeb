// The last factor of a rotation and its codes, which never are floats in memory. Included by tile.inc.h for instruction
// sets that have
//
//   encode_rows     the codes of four vectors, in lines of the cache that follow each other
//   put_line        such a line to y

template <int R>
void last_factor(const float* data, std::ptrdiff_t step, int columns, const Grid& grid, std::uint8_t* to,
                 std::ptrdiff_t to_row) {
  alignas(kLineBytes) std::uint8_t lines[R][kLineBytes];  // whole ones may pass the caches by
  for (int from = 0; from < columns; from += kLineBytes) {
#pragma GCC unroll 1
    for (int t = 0; t < kLineBytes; t += kWidth) {
      F v[R];
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) v[i] = load(data + i * step + from + t);
      sylvester<R>(v);
#pragma GCC unroll 4
      for (int i = 0; i < R; i += 4) encode_rows(v + i, lines[i] + t, grid);
    }
    for (int i = 0; i < R; ++i) put_line(lines[i], to + i * to_row + from, grid);
  }
}

// Columns are whole lines of codes; a radix of 2 has too few rows.
void last_factor(int radix, const float* data, std::ptrdiff_t step, int columns, const Grid& grid, std::uint8_t* to,
                 std::ptrdiff_t to_row) {
  switch (radix) {
    case 4: return last_factor<4>(data, step, columns, grid, to, to_row);
    case 8: return last_factor<8>(data, step, columns, grid, to, to_row);
    case 16: return last_factor<16>(data, step, columns, grid, to, to_row);
    default: __builtin_unreachable();
  }
}
