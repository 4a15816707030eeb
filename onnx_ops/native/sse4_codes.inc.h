// Codes of a rotation with SSE4.1. Included after the vector type by generic.inc.h.

#include "x86_grid.inc.h"

// What is not a number passes the minimum, and the conversion makes it the least integer.
ALWAYS_INLINE __m128i steps_of(const float* from, F high) { return _mm_cvtps_epi32(_mm_min_ps(high, _mm_loadu_ps(from))); }

ALWAYS_INLINE __m128i words_of(const float* from, const Grid& grid) {
  return (__m128i)codes_of((Words)_mm_packs_epi32(steps_of(from, grid.high), steps_of(from + 4, grid.high)), grid);
}

ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
  for (int i = 0; i < 32; i += 16) {
    const __m128i low = words_of(from + i, grid), high = words_of(from + i + 8, grid);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm_xor_si128(_mm_packus_epi16(low, high), grid.flip));
  }
}
