// Winograd's transforms of codes and of integer weights, for integers or vectors of them: polynomials at
// points, whose products stand for a tile of edge x edge pixels. Included inside an anonymous namespace,
// as vectors.inc.h.
//
//   F(2x2, 3x3)   at 0, 1, -1 and infinity: 16 products instead of 36
//   F(4x4, 3x3)   at i and -i too, in which no coefficient but 0, 1 and -1 occurs: 46 instead of 144.
//                 Values at -i are conjugates of those at i: 16 real numbers are left and 10 complex
//                 ones, of three products each (Meng and Brothers, "Efficient Winograd Convolution via
//                 Integer Arithmetic", 2019):
//
//                 (a + bi)(c + di) = (k1 - k3) + (k1 + k2)i,  k1 = (a + b)c, k2 = a(d - c), k3 = b(c + d)
//
// Products are in the order of the real points, 4 * i + j for rows at point i and columns at point j;
// then, by threes, rows at a real point and columns at i, rows at i and columns at a real point, both at
// i, and rows at i and columns at -i.

constexpr int kRealPoints = 4;  // 0, 1, -1, infinity

// A polynomial's values at the real points, and its real and imaginary part at i.
template <class V>
struct AtPoints {
  V real[kRealPoints], re, im;
};

template <class V>
ALWAYS_INLINE AtPoints<V> code_at_points(const V (&d)[6]) {
  const V even = d[4] + d[2], odd = d[3] + d[1];
  return {{d[0] - d[4], even + odd, even - odd, d[5] - d[1]}, d[4] - d[2], d[3] - d[1]};
}

template <class V>
ALWAYS_INLINE AtPoints<V> weight_at_points(const V (&g)[3]) {
  const V even = g[0] + g[2];
  return {{g[0], even + g[1], even - g[1], g[2]}, g[0] - g[2], g[1]};
}

// The same for tiles of 2x2 pixels, B^T d and twice the usual G g.
template <class V>
ALWAYS_INLINE void code_at_points(const V (&d)[4], V (&v)[kRealPoints]) {
  v[0] = d[0] - d[2];
  v[1] = d[1] + d[2];
  v[2] = d[2] - d[1];
  v[3] = d[1] - d[3];
}

template <class V>
ALWAYS_INLINE void weight_at_points(const V (&g)[3], V (&u)[kRealPoints]) {
  const V even = g[0] + g[2];
  u[0] = g[0] + g[0];
  u[1] = even + g[1];
  u[2] = even - g[1];
  u[3] = g[2] + g[2];
}

// The factors of a complex number's three products.
template <class V>
ALWAYS_INLINE void code_factors(V re, V im, V* to) {
  to[0] = re + im;
  to[1] = re;
  to[2] = im;
}

template <class V>
ALWAYS_INLINE void weight_factors(V re, V im, V* to) {
  to[0] = re;
  to[1] = im - re;
  to[2] = re + im;
}

// Factors of all products, from the values of columns at the real points and the two parts at i of rows.
template <class V, class Factors>
ALWAYS_INLINE void factors_of(const AtPoints<V> (&rows)[6], Factors factors, V* to) {
#pragma GCC unroll 4
  for (int i = 0; i < kRealPoints; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kRealPoints; ++j) to[4 * i + j] = rows[i].real[j];
    factors(rows[i].re, rows[i].im, to + 16 + 3 * i);
    factors(rows[4].real[i], rows[5].real[i], to + 28 + 3 * i);
  }
  const AtPoints<V>&re = rows[4], &im = rows[5];
  factors(re.re - im.im, re.im + im.re, to + 40);
  factors(re.re + im.im, im.re - re.im, to + 43);
}

// Rows of values become rows at points: rows[i][j] of column j at point i, then the parts at i.
template <int kColumns, class V>
ALWAYS_INLINE void put_column(const AtPoints<V>& column, int j, V (&rows)[6][kColumns]) {
#pragma GCC unroll 4
  for (int i = 0; i < kRealPoints; ++i) rows[i][j] = column.real[i];
  rows[4][j] = column.re;
  rows[5][j] = column.im;
}

// V = B^T d B of a tile, where pixel(i, j) is one of its codes.
template <int kEdge, class V, class Pixel>
ALWAYS_INLINE void transform_codes(Pixel pixel, V* to) {
  if constexpr (kEdge == 2) {
    V rows[kRealPoints][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      V column[kRealPoints];
      code_at_points({pixel(0, j), pixel(1, j), pixel(2, j), pixel(3, j)}, column);
#pragma GCC unroll 4
      for (int i = 0; i < kRealPoints; ++i) rows[i][j] = column[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRealPoints; ++i) {
      V values[kRealPoints];
      code_at_points(rows[i], values);
#pragma GCC unroll 4
      for (int j = 0; j < kRealPoints; ++j) to[4 * i + j] = values[j];
    }
  } else {
    V rows[6][6];
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) {
      put_column(code_at_points({pixel(0, j), pixel(1, j), pixel(2, j), pixel(3, j), pixel(4, j),
                                 pixel(5, j)}),
                 j, rows);
    }
    AtPoints<V> values[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) values[i] = code_at_points(rows[i]);
    factors_of(values, [](V re, V im, V* at) { code_factors(re, im, at); }, to);
  }
}

// U = G g G^T of the nine taps of one filter and channel; with tiles of 2x2 pixels G is doubled.
template <int kEdge, class V>
ALWAYS_INLINE void transform_weights(const V* g, V* to) {
  if constexpr (kEdge == 2) {
    V rows[kRealPoints][3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      V column[kRealPoints];
      weight_at_points({g[j], g[3 + j], g[6 + j]}, column);
#pragma GCC unroll 4
      for (int i = 0; i < kRealPoints; ++i) rows[i][j] = column[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRealPoints; ++i) {
      V values[kRealPoints];
      weight_at_points(rows[i], values);
#pragma GCC unroll 4
      for (int j = 0; j < kRealPoints; ++j) to[4 * i + j] = values[j];
    }
  } else {
    V rows[6][3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) put_column(weight_at_points({g[j], g[3 + j], g[6 + j]}), j, rows);
    AtPoints<V> values[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) values[i] = weight_at_points(rows[i]);
    factors_of(values, [](V re, V im, V* at) { weight_factors(re, im, at); }, to);
  }
}

// One axis of A^T: pixels from the sums at the real points and twice the two parts at i.
template <class V>
ALWAYS_INLINE void pixels_at(const V (&m)[kRealPoints], V (&y)[2]) {
  y[0] = m[0] + m[1] + m[2];
  y[1] = m[1] - m[2] - m[3];
}

template <class V>
ALWAYS_INLINE void pixels_at(const V (&m)[kRealPoints], V re, V im, V (&y)[4]) {
  const V sum = m[1] + m[2], difference = m[1] - m[2];
  y[0] = (m[0] << 2) + sum + re;
  y[1] = difference - im;
  y[2] = sum - re;
  y[3] = difference + im + (m[3] << 2);
}

// Sums of all products become the pixels of a tile, times 4 or times 16; sum(position) is one of them.
template <int kEdge, class V, class Sum>
ALWAYS_INLINE void transform_sums(Sum sum, V (&y)[kEdge][kEdge]) {
  V columns[6][kEdge];  // [point of the columns][row]: real ones, then twice the parts at i
  if constexpr (kEdge == 2) {
#pragma GCC unroll 4
    for (int j = 0; j < kRealPoints; ++j) {
      pixels_at({sum(j), sum(4 + j), sum(8 + j), sum(12 + j)}, columns[j]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < kEdge; ++i) {
      pixels_at({columns[0][i], columns[1][i], columns[2][i], columns[3][i]}, y[i]);
    }
  } else {
    const auto part = [&](int at, V& re, V& im) {
      const V k1 = sum(at);
      re = k1 - sum(at + 2);
      im = k1 + sum(at + 1);
    };
#pragma GCC unroll 4
    for (int j = 0; j < kRealPoints; ++j) {
      V re, im;
      part(28 + 3 * j, re, im);
      pixels_at({sum(j), sum(4 + j), sum(8 + j), sum(12 + j)}, re + re, im + im, columns[j]);
    }
    V re[kRealPoints], im[kRealPoints], both_re, both_im, other_re, other_im;
#pragma GCC unroll 4
    for (int i = 0; i < kRealPoints; ++i) part(16 + 3 * i, re[i], im[i]);
    part(40, both_re, both_im);
    part(43, other_re, other_im);
    pixels_at(re, both_re + other_re, both_im + other_im, columns[4]);
    pixels_at(im, both_im - other_im, other_re - both_re, columns[5]);
#pragma GCC unroll 4
    for (int i = 0; i < kEdge; ++i) {
      pixels_at({columns[0][i], columns[1][i], columns[2][i], columns[3][i]},
                columns[4][i] + columns[4][i], columns[5][i] + columns[5][i], y[i]);
    }
  }
}
