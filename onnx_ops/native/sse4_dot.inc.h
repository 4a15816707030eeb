// Vectors of bytes with SSE4.1, and their products. Included by generic.inc.h.

// Sixteen registers would hold the sums of six rows, too, but attention's values go by whole vectors of rows.
constexpr int kRows = 4;

typedef __m128i Dotted;

ALWAYS_INLINE Dotted load_dotted(const std::int8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

ALWAYS_INLINE Dotted four_codes(const std::uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm_set1_epi32(word);
}

ALWAYS_INLINE Dotted pairs_of_bytes(Dotted codes, Dotted weights) { return _mm_maddubs_epi16(codes, weights); }

ALWAYS_INLINE Dotted pairs_of_words(Dotted a, Dotted b) { return _mm_madd_epi16(a, b); }

// In place, as in_place.h has them.
ALWAYS_INLINE void add_int16(Dotted& sums, Dotted v) { asm volatile("paddw %1, %0" : "+x"(sums) : "x"(v)); }

ALWAYS_INLINE void add_int32(Dotted& sums, Dotted v) { asm volatile("paddd %1, %0" : "+x"(sums) : "x"(v)); }

#include "x86_dot.inc.h"
