// Kernels for x86 CPUs with AVX-512 F, BW, DQ and VL. Included by kernels_avx512.cc and, compiled for
// CPUs with its dot product of bytes, by kernels_avx512_vnni.cc.
#ifdef QUANTFACE_EMULATE
#include "emulated.h"
#else
#include "in_place.h"
#endif

#include <optional>
#include <utility>

#include "kernels.h"

namespace quantface {
namespace {

typedef float F __attribute__((vector_size(64)));
typedef std::int32_t I __attribute__((vector_size(64)));
constexpr int kWidth = 16;

#include "x86_codes.inc.h"

typedef int Groups __attribute__((vector_size(64)));  // of four codes

// What is not a number passes the minimum, and the conversion makes it the least integer.
ALWAYS_INLINE __m512i steps_of(F v, F high) { return _mm512_cvtps_epi32(_mm512_min_ps(high, v)); }

ALWAYS_INLINE __m512i words_of(F a, F b, const Grid& grid) {
  return (__m512i)codes_of((Words)_mm512_packs_epi32(steps_of(a, grid.high), steps_of(b, grid.high)), grid);
}

ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
  const __m512i words = words_of(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16), grid);
  // Both packs work within quarters: restore the order of the groups of four.
  const Groups bytes = (Groups)_mm512_packus_epi16(words, words);
  put_codes((__m256i)__builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, 1, 5, 9, 13), to, grid);
}

#define QUANTFACE_ENCODES_ROWS

// Quarters of what the packs leave have a group of each row.
ALWAYS_INLINE void encode_rows(const F* v, std::uint8_t* lines, const Grid& grid) {
  const Groups codes = (Groups)_mm512_packus_epi16(words_of(v[0], v[1], grid), words_of(v[2], v[3], grid));
  const auto put = [&](int row, auto groups) { __builtin_memcpy(lines + row * kLineBytes, &groups, sizeof groups); };
  put(0, __builtin_shufflevector(codes, codes, 0, 4, 8, 12));
  put(1, __builtin_shufflevector(codes, codes, 1, 5, 9, 13));
  put(2, __builtin_shufflevector(codes, codes, 2, 6, 10, 14));
  put(3, __builtin_shufflevector(codes, codes, 3, 7, 11, 15));
}

ALWAYS_INLINE void put_line(const std::uint8_t* line, std::uint8_t* to, const Grid& grid) {
  for (int i = 0; i < kLineBytes; i += 32) {
    __m256i codes;
    __builtin_memcpy(&codes, line + i, sizeof codes);
    put_codes(codes, to + i, grid);
  }
}

ALWAYS_INLINE F larger(F a, F b) { return _mm512_max_ps(a, b); }

ALWAYS_INLINE F smaller(F a, F b) { return _mm512_min_ps(a, b); }

ALWAYS_INLINE F load_part(const float* p, int count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), p);
}

ALWAYS_INLINE void store_part(float* p, F v, int count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1 << count) - 1), v);
}

ALWAYS_INLINE I rounded(F v) { return (I)_mm512_cvtps_epi32(v); }

ALWAYS_INLINE void stream(float* to, F v) { _mm512_stream_ps(to, v); }

ALWAYS_INLINE void fence() { _mm_sfence(); }

ALWAYS_INLINE void half_to_float(const std::uint16_t* from, float* to) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  _mm512_storeu_ps(to, _mm512_cvtph_ps(halves));
}

ALWAYS_INLINE void float_to_half(const float* from, std::uint16_t* to) {
  const __m256i halves = _mm512_cvtps_ph(_mm512_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
}

// 32 registers: 24 sums, two vectors of weights, the codes and a product.
constexpr int kRows = 12;

typedef __m512i Dotted;

ALWAYS_INLINE Dotted load_dotted(const std::int8_t* p) { return _mm512_loadu_si512(p); }

ALWAYS_INLINE Dotted four_codes(const std::uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}

ALWAYS_INLINE Dotted pairs_of_bytes(Dotted codes, Dotted weights) {
  return _mm512_maddubs_epi16(codes, weights);
}

ALWAYS_INLINE Dotted pairs_of_words(Dotted a, Dotted b) { return _mm512_madd_epi16(a, b); }

ALWAYS_INLINE F fused(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }

ALWAYS_INLINE void add_product(F& sum, F a, F b) { sum = fused(a, b, sum); }

#include "x86_dot.inc.h"
#include "algorithms.inc.h"

}  // namespace
}  // namespace quantface
