// The last factor of a rotation and its codes, which never are floats in memory. Included by tile.inc.h for instruction
// sets that have
//
//   Groups          the codes of a vector of columns of four rows
//   encode_rows     those of four vectors
//   put_lines       a line of the cache of each of the rows, from four of those

template <int R>
void last_factor(const float* data, std::ptrdiff_t step, int columns, const Grid& grid, std::uint8_t* to,
                 std::ptrdiff_t to_row) {
  constexpr int kParts = kLineBytes / kWidth;
  Groups codes[R / 4][kParts];
  for (int from = 0; from < columns; from += kLineBytes) {
#pragma GCC unroll 1
    for (int part = 0; part < kParts; ++part) {
      F v[R];
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) v[i] = load(data + i * step + from + part * kWidth);
      sylvester<R>(v);
#pragma GCC unroll 4
      for (int i = 0; i < R; i += 4) codes[i / 4][part] = encode_rows(v + i, grid);
    }
    for (int i = 0; i < R; i += 4) put_lines(codes[i / 4], to + i * to_row + from, to_row, grid);
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
