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

// Values of polynomials: at the real points, then, for tiles of 4x4 pixels, the two parts at i. And the
// factors of a complex number's three products.
struct Codes {
  template <class V>
  static ALWAYS_INLINE void evaluate(const V (&d)[4], V (&v)[4]) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
  }

  template <class V>
  static ALWAYS_INLINE void evaluate(const V (&d)[6], V (&v)[6]) {
    const V even = d[4] + d[2], odd = d[3] + d[1];
    v[0] = d[0] - d[4];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = d[5] - d[1];
    v[4] = d[4] - d[2];
    v[5] = d[3] - d[1];
  }

  template <class V>
  static ALWAYS_INLINE void factors(V re, V im, V* to) {
    to[0] = re + im;
    to[1] = re;
    to[2] = im;
  }
};

struct Weights {
  template <class V>
  static ALWAYS_INLINE void evaluate(const V (&g)[3], V (&u)[4]) {  // twice the usual G g
    const V even = g[0] + g[2];
    u[0] = g[0] + g[0];
    u[1] = even + g[1];
    u[2] = even - g[1];
    u[3] = g[2] + g[2];
  }

  template <class V>
  static ALWAYS_INLINE void evaluate(const V (&g)[3], V (&u)[6]) {
    const V even = g[0] + g[2];
    u[0] = g[0];
    u[1] = even + g[1];
    u[2] = even - g[1];
    u[3] = g[2];
    u[4] = g[0] - g[2];
    u[5] = g[1];
  }

  template <class V>
  static ALWAYS_INLINE void factors(V re, V im, V* to) {
    to[0] = re;
    to[1] = im - re;
    to[2] = re + im;
  }
};

// Factors of all products: y[i][j], of rows at i and columns at j, where both are real points.
template <class Side, class V>
ALWAYS_INLINE void factors_of(const V (&y)[4][4], V* to) {
#pragma GCC unroll 4
  for (int i = 0; i < kRealPoints; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kRealPoints; ++j) to[4 * i + j] = y[i][j];
  }
}

template <class Side, class V>
ALWAYS_INLINE void factors_of(const V (&y)[6][6], V* to) {
#pragma GCC unroll 4
  for (int i = 0; i < kRealPoints; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kRealPoints; ++j) to[4 * i + j] = y[i][j];
    Side::factors(y[i][4], y[i][5], to + 16 + 3 * i);
    Side::factors(y[4][i], y[5][i], to + 28 + 3 * i);
  }
  Side::factors(y[4][4] - y[5][5], y[4][5] + y[5][4], to + 40);
  Side::factors(y[4][4] + y[5][5], y[5][4] - y[4][5], to + 43);
}

// Both axes of a square of kSize values, value(i, j), at kPoints: B^T d B of codes, G g G^T of weights.
template <class Side, int kSize, int kPoints, class V, class Value>
ALWAYS_INLINE void transform_square(Value value, V* to) {
  V rows[kPoints][kSize], y[kPoints][kPoints];
#pragma GCC unroll 6
  for (int j = 0; j < kSize; ++j) {
    V column[kSize], at[kPoints];
#pragma GCC unroll 6
    for (int i = 0; i < kSize; ++i) column[i] = value(i, j);
    Side::evaluate(column, at);
#pragma GCC unroll 6
    for (int i = 0; i < kPoints; ++i) rows[i][j] = at[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < kPoints; ++i) Side::evaluate(rows[i], y[i]);
  factors_of<Side>(y, to);
}

// V = B^T d B of a tile, where pixel(i, j) is one of its codes.
template <int kEdge, class V, class Pixel>
ALWAYS_INLINE void transform_codes(Pixel pixel, V* to) {
  transform_square<Codes, kEdge + 2, kEdge + 2>(pixel, to);
}

// U = G g G^T of the nine taps of one filter and channel.
template <int kEdge, class V>
ALWAYS_INLINE void transform_weights(const V* g, V* to) {
  transform_square<Weights, 3, kEdge + 2>([&](int i, int j) { return g[3 * i + j]; }, to);
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
