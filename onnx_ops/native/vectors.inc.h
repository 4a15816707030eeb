// Vectors of floats and of integers. Included, inside an anonymous namespace, by one file per
// instruction set, which defines F, a vector of kWidth floats, I, of as many integers, and
//
//   load_part, store_part   the first `count` lanes, fewer than all; the others are zeros, and not stored
//
// No function here may have external linkage: the copy that the linker kept could be one that
// the CPU cannot run.

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

// Whether a vector is a line of the caches. Halves of one that go past them to several planes in turns, most often a
// power of two apart, are written each for itself, which takes longer than to read the lines first.
constexpr bool kWholeLines = kWidth >= kLine;

// Whether whole vectors may `stream` to rows of which the first begins at `to`, `row` floats apart.
ALWAYS_INLINE bool can_stream(const float* to, std::int64_t row) {
  return reinterpret_cast<std::uintptr_t>(to) % sizeof(F) == 0 && row % kWidth == 0;
}

ALWAYS_INLINE F absolute(F v) { return (F)((I)v & 0x7FFFFFFF); }

// What lies from p on, zeros from `end` on.
ALWAYS_INLINE F load_until(const float* p, const float* end) {
  if (end - p >= kWidth) return load(p);
  return end > p ? load_part(p, static_cast<int>(end - p)) : F{};
}

template <int... kAt>
ALWAYS_INLINE F first_of(F v, std::int64_t count, std::integer_sequence<int, kAt...>) {
  const I lanes = {kAt...};
  return (F)((I)v & (lanes < static_cast<int>(count)));
}

// The first `count` lanes, then zeros.
ALWAYS_INLINE F first_of(F v, std::int64_t count) {
  return count >= kWidth ? v : first_of(v, count, std::make_integer_sequence<int, kWidth>{});
}

ALWAYS_INLINE void store_some(float* p, F v, std::int64_t count) {
  count >= kWidth ? store(p, v) : store_part(p, v, static_cast<int>(count));
}

// What `both` makes of all lanes, by halves.
template <int kHalf = kWidth / 2, class V, class Both, int... kAt>
ALWAYS_INLINE auto reduced(V v, Both both, std::integer_sequence<int, kAt...> lanes) {
  const V result = both(v, __builtin_shufflevector(v, v, (kAt + kHalf) % kWidth...));
  if constexpr (kHalf == 1) {
    return result[0];
  } else {
    return reduced<kHalf / 2>(result, both, lanes);
  }
}

template <class V>
ALWAYS_INLINE auto sum_of(V v) {
  return reduced(v, [](V a, V b) { return a + b; }, std::make_integer_sequence<int, kWidth>{});
}

// What it is where a lane is not a number, is open.
ALWAYS_INLINE float largest_of(F v) {
  return reduced(v, [](F a, F b) { return larger(a, b); }, std::make_integer_sequence<int, kWidth>{});
}
