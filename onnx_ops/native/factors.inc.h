// One factor of a rotation on rows of floats: Sylvester's as butterflies, a Paley seed. Included by
// tile.inc.h.

#include "seed.inc.h"

// v becomes S_R v.
template <int R>
ALWAYS_INLINE void sylvester(F* v) {
  if constexpr (R > 1) {
#pragma GCC unroll 8
    for (int i = 0; i < R / 2; ++i) {
      const F a = v[i], b = v[i + R / 2];
      v[i] = a + b;
      v[i + R / 2] = a - b;
    }
    sylvester<R / 2>(v);
    sylvester<R / 2>(v + R / 2);
  }
}

// Columns first to last - 1 of R rows that read(t, v) gives, to R rows `step` floats apart.
template <int R, class Read>
ALWAYS_INLINE void butterfly_pass(const Read& read, float* data, std::ptrdiff_t step, int first, int last) {
  for (int t = first; t < last; t += kWidth) {
    F v[R];
    read(t, v);
    sylvester<R>(v);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) store(data + i * step + t, v[i]);
  }
}

// In place.
template <int R>
void butterfly_pass(float* data, std::ptrdiff_t step, int columns) {
  const auto read = [&](int t, F* v) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) v[i] = load(data + i * step + t);
  };
  butterfly_pass<R>(read, data, step, 0, columns);
}

constexpr int kFirstRadix = 8;  // of the first factor of 32 channels and more that are a power of two

// One factor of the plan on `radix` rows, in place.
void factor_pass(int radix, float* data, std::ptrdiff_t step, const int* order, int columns) {
  switch (radix) {
    case 1: return;
    case 2: return butterfly_pass<2>(data, step, columns);
    case 4: return butterfly_pass<4>(data, step, columns);
    case 8: return butterfly_pass<8>(data, step, columns);
    case 16: return butterfly_pass<16>(data, step, columns);
    case 12: return seed_pass<12>(data, step, order, columns);
    case 20: return seed_pass<20>(data, step, order, columns);
    case 60: return seed_pass<60>(data, step, order, columns);
    default: __builtin_unreachable();
  }
}
