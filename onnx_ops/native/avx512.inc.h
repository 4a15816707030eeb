// Kernels for x86 CPUs with AVX-512 F, BW, DQ and VL. Included by kernels_avx512.cc and, compiled for
// CPUs with its dot product of bytes, by kernels_avx512_vnni.cc.
#ifdef QUANTFACE_EMULATE
#include "emulated.h"
#else
#include "in_place.h"
#endif

#include <utility>

#include "kernels.h"

namespace quantface {
namespace {

typedef float F __attribute__((vector_size(64)));
constexpr int kWidth = 16;

struct Grid {
  F low, high;
  __m512i zero_point;
  bool stream;

  explicit Grid(const Rotation& r) {
    low = _mm512_set1_ps(r.low);
    high = _mm512_set1_ps(r.high);
    zero_point = _mm512_set1_epi32(r.zero_point);
    stream = r.stream;
  }
};

// The maximum's second operand is the result where the first is not a number.
ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
  const bool stream = grid.stream && reinterpret_cast<std::uintptr_t>(to) % 16 == 0;
#pragma GCC unroll 2
  for (int i = 0; i < 32; i += 16) {
    const F v = _mm512_min_ps(_mm512_max_ps(_mm512_loadu_ps(from + i), grid.low), grid.high);
    const __m512i codes = _mm512_add_epi32(_mm512_cvtps_epi32(v), grid.zero_point);
    if (stream) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm512_cvtepi32_epi8(codes));
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm512_cvtepi32_epi8(codes));
    }
  }
}

ALWAYS_INLINE F larger(F a, F b) { return _mm512_max_ps(a, b); }

ALWAYS_INLINE F smaller(F a, F b) { return _mm512_min_ps(a, b); }

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

ALWAYS_INLINE void add_product(F& sum, F a, F b) { sum = _mm512_fmadd_ps(a, b, sum); }

#include "x86_dot.inc.h"
#include "algorithms.inc.h"

}  // namespace
}  // namespace quantface
