// The Paley seed H_m as a dense product with +-1, unrolled at compile time.
//
// Channels are taken by four: their eight sums up to sign, a +-b +-c +-d, cost 12 additions and
// serve all m rows, each of which then adds m / 4 of them: m = 20 takes 7 additions per value
// instead of 19. Included after the vector type.

constexpr bool is_square(int residue, int q) {
  for (int i = 0; i < q; ++i) {
    if (i * i % q == residue) return true;
  }
  return false;
}

template <int M>
struct Paley {
  bool minus[M][M] = {};  // where H_m is -1, its first column negated: rows start with a plus

  constexpr Paley() {
    const int q = M - 1;
    for (int i = 0; i < M; ++i) {
      minus[i][0] = i == 0;
      for (int j = 1; i > 0 && j < M; ++j) minus[i][j] = !is_square((i - j + q) % q, q);
    }
  }
};

template <int M>
inline constexpr Paley<M> kPaley{};

template <int M, int I, int Q = 0>
ALWAYS_INLINE F seed_row(const F (&sums)[M / 4][8], F total) {
  constexpr const bool(&minus)[M] = kPaley<M>.minus[I];
  constexpr bool first = minus[4 * Q];
  constexpr int signs = (minus[4 * Q + 1] != first) * 4 + (minus[4 * Q + 2] != first) * 2 +
                        (minus[4 * Q + 3] != first);
  const F sum = sums[Q][signs];
  if constexpr (Q == 0) {
    total = first ? -sum : sum;
  } else {
    total = first ? total - sum : total + sum;
  }
  if constexpr (Q + 1 < M / 4) total = seed_row<M, I, Q + 1>(sums, total);
  return total;
}

template <int M, int... I>
ALWAYS_INLINE void seed_rows(const F (&sums)[M / 4][8], float* const (&at)[M], int t,
                             std::integer_sequence<int, I...>) {
  (store(at[I] + t, seed_row<M, I>(sums, F{})), ...);
}

// M rows, `step` floats apart, in place, read and written in the given order.
template <int M>
void seed_pass(float* data, std::ptrdiff_t step, const int* order, int columns) {
  float* at[M];
  for (int i = 0; i < M; ++i) at[i] = data + order[i] * step;
  for (int t = 0; t < columns; t += kWidth) {
    F sums[M / 4][8];
    for (int quad = 0; quad < M / 4; ++quad) {
      float* const* from = at + 4 * quad;
      F a = load(from[0] + t);
      const F b = load(from[1] + t), c = load(from[2] + t), d = load(from[3] + t);
      if (quad == 0) a = -a;
      const F ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
      F(&s)[8] = sums[quad];
      s[0] = ab + cd;
      s[1] = ab + c_d;
      s[2] = ab - c_d;
      s[3] = ab - cd;
      s[4] = a_b + cd;
      s[5] = a_b + c_d;
      s[6] = a_b - c_d;
      s[7] = a_b - cd;
    }
    seed_rows<M>(sums, at, t, std::make_integer_sequence<int, M>{});
  }
}
