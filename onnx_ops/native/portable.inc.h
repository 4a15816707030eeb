// Of what an instruction set defines, what any compiler makes of vectors. Included after the vector type by
// kernels_generic.cc and neon.inc.h.

ALWAYS_INLINE F larger(F a, F b) { return a > b ? a : b; }

ALWAYS_INLINE F smaller(F a, F b) { return a < b ? a : b; }

ALWAYS_INLINE F load_part(const float* p, int count) {
  F v = {};
  __builtin_memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(float));
  return v;
}

ALWAYS_INLINE void store_part(float* p, F v, int count) {
  __builtin_memcpy(p, &v, static_cast<std::size_t>(count) * sizeof(float));
}

// Half to even; of less than 2**22.
ALWAYS_INLINE I rounded(F v) {
  const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23
  return (I)(v + rounder) - (I)rounder;
}

ALWAYS_INLINE void stream(float* to, F v) { __builtin_memcpy(to, &v, sizeof v); }

ALWAYS_INLINE void fence() {}
