// Vectors of floats and of integers. Included, inside an anonymous namespace, by one file per
// instruction set, which defines F, a vector of kWidth floats.
//
// No function here may have external linkage: the copy that the linker kept could be one that
// the CPU cannot run.

typedef std::int32_t I __attribute__((vector_size(4 * kWidth)));

template <class V, class T>
ALWAYS_INLINE V load_as(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class V, class T>
ALWAYS_INLINE void store_as(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

ALWAYS_INLINE F load(const float* p) { return load_as<F>(p); }

ALWAYS_INLINE void store(float* p, F v) { store_as(p, v); }
