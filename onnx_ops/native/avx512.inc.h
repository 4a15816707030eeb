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

// The codes of 16 columns of four rows: the packs leave a group of each row in each quarter.
ALWAYS_INLINE Groups encode_rows(const F* v, const Grid& grid) {
  return (Groups)_mm512_packus_epi16(words_of(v[0], v[1], grid), words_of(v[2], v[3], grid));
}

// Two of those that follow each other: the first rows, or the last ones, of which each has a half.
template <int kRow>
ALWAYS_INLINE Groups two_rows(Groups a, Groups b) {
  constexpr int r = kRow, s = kRow + 1;
  return __builtin_shufflevector(a, b, r, r + 4, r + 8, r + 12, r + 16, r + 20, r + 24, r + 28,  //
                                 s, s + 4, s + 8, s + 12, s + 16, s + 20, s + 24, s + 28);
}

// Four of those become a line of each row.
ALWAYS_INLINE void put_lines(const Groups* codes, std::uint8_t* to, std::ptrdiff_t to_row, const Grid& grid) {
  const Groups flip = Groups{} + _mm_cvtsi128_si32(grid.flip);
  const auto put = [&](int row, Groups line) {
    float* at = reinterpret_cast<float*>(to + row * to_row);
    const bool streams = grid.stream && reinterpret_cast<std::uintptr_t>(at) % sizeof line == 0;
    streams ? _mm512_stream_ps(at, (F)(line ^ flip)) : _mm512_storeu_ps(at, (F)(line ^ flip));
  };
  const auto put_two = [&](int row, Groups left, Groups right) {
    put(row, __builtin_shufflevector(left, right, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23));
    put(row + 1, __builtin_shufflevector(left, right, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31));
  };
  put_two(0, two_rows<0>(codes[0], codes[1]), two_rows<0>(codes[2], codes[3]));
  put_two(2, two_rows<2>(codes[0], codes[1]), two_rows<2>(codes[2], codes[3]));
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
