// Kernels for x86 CPUs with AVX2, FMA and F16C. Included by kernels_avx2.cc and, compiled for CPUs with
// AVX-VNNI's dot product of bytes, by kernels_avx2_vnni.cc.
#ifdef QUANTFACE_EMULATE
#include "emulated.h"
#else
#include "in_place.h"
#endif

#include <utility>

#include "kernels.h"

namespace quantface {
namespace {

typedef float F __attribute__((vector_size(32)));
typedef std::int32_t I __attribute__((vector_size(32)));
constexpr int kWidth = 8;

#include "x86_codes.inc.h"

// What is not a number passes the minimum, and the conversion makes it the least integer.
ALWAYS_INLINE __m256i steps_of(const float* from, F high) {
  return _mm256_cvtps_epi32(_mm256_min_ps(high, _mm256_loadu_ps(from)));
}

ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
  __m256i words[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const float* half = from + 16 * i;
    const __m256i steps = _mm256_packs_epi32(steps_of(half, grid.high), steps_of(half + 8, grid.high));
    words[i] = (__m256i)codes_of((Words)steps, grid);
  }
  // Both packs work within halves: restore the order of the groups of four.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_packus_epi16(words[0], words[1]);
  put_codes(_mm256_permutevar8x32_epi32(bytes, order), to, grid);
}

ALWAYS_INLINE F larger(F a, F b) { return _mm256_max_ps(a, b); }

ALWAYS_INLINE F smaller(F a, F b) { return _mm256_min_ps(a, b); }

ALWAYS_INLINE __m256i lanes_below(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

ALWAYS_INLINE F load_part(const float* p, int count) { return _mm256_maskload_ps(p, lanes_below(count)); }

ALWAYS_INLINE void store_part(float* p, F v, int count) { _mm256_maskstore_ps(p, lanes_below(count), v); }

ALWAYS_INLINE I rounded(F v) { return (I)_mm256_cvtps_epi32(v); }

ALWAYS_INLINE void stream(float* to, F v) { _mm256_stream_ps(to, v); }

ALWAYS_INLINE void fence() { _mm_sfence(); }

ALWAYS_INLINE void half_to_float(const std::uint16_t* from, float* to) {
  for (int i = 0; i < 16; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(halves));
  }
}

ALWAYS_INLINE void float_to_half(const float* from, std::uint16_t* to) {
  for (int i = 0; i < 16; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), halves);
  }
}

// Sixteen registers: twelve sums, two vectors of weights, the codes and a product.
constexpr int kRows = 6;

typedef __m256i Dotted;

ALWAYS_INLINE Dotted load_dotted(const std::int8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

ALWAYS_INLINE Dotted four_codes(const std::uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}

ALWAYS_INLINE Dotted pairs_of_bytes(Dotted codes, Dotted weights) {
  return _mm256_maddubs_epi16(codes, weights);
}

ALWAYS_INLINE Dotted pairs_of_words(Dotted a, Dotted b) { return _mm256_madd_epi16(a, b); }

ALWAYS_INLINE F fused(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }

ALWAYS_INLINE void add_product(F& sum, F a, F b) { sum = fused(a, b, sum); }

#include "x86_dot.inc.h"
#include "algorithms.inc.h"

}  // namespace
}  // namespace quantface
