// Codes of a rotation with SSE4.1. Included after the vector type by generic.inc.h.

typedef short Words __attribute__((vector_size(16)));

// The codes' constants; signed codes are shifted up by 128 until the end.
struct Grid {
  F high;
  Words zero_point, least;
  __m128i flip;

  explicit Grid(const CodeGrid& g) {
    const int shift = g.is_signed ? 128 : 0;
    high = F{} + g.high;
    zero_point = Words{} + static_cast<short>(g.zero_point + shift);
    least = Words{} + static_cast<short>(g.low + g.zero_point + shift);
    flip = _mm_set1_epi8(static_cast<char>(shift));
  }
};

// What is not a number passes the minimum, and the conversion makes it the least integer.
ALWAYS_INLINE __m128i steps_of(const float* from, F high) { return _mm_cvtps_epi32(_mm_min_ps(high, _mm_loadu_ps(from))); }

ALWAYS_INLINE Words words_of(const float* from, const Grid& grid) {
  const Words codes = (Words)_mm_packs_epi32(steps_of(from, grid.high), steps_of(from + 4, grid.high)) + grid.zero_point;
  return codes > grid.least ? codes : grid.least;
}

ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
  for (int i = 0; i < 32; i += 16) {
    const __m128i low = (__m128i)words_of(from + i, grid), high = (__m128i)words_of(from + i + 8, grid);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm_xor_si128(_mm_packus_epi16(low, high), grid.flip));
  }
}
