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
typedef short Words __attribute__((vector_size(64)));
typedef int Int __attribute__((vector_size(64)));
typedef int Half __attribute__((vector_size(32)));
constexpr int kWidth = 16;

// The codes' constants; signed codes are shifted up by 128 until the end.
struct Grid {
  F high;
  Words zero_point, least;
  Int flip;
  bool stream;

  explicit Grid(const Rotation& r) {
    const int shift = r.y_type == Element::kInt8 ? 128 : 0;
    high = _mm512_set1_ps(r.high);
    zero_point = Words{} + static_cast<short>(r.zero_point + shift);
    least = Words{} + static_cast<short>(static_cast<int>(r.low) + r.zero_point + shift);
    flip = Int{} + static_cast<int>(shift * 0x01010101u);
    stream = r.stream;
  }
};

// What is not a number passes the minimum, and the conversion makes it the least integer.
ALWAYS_INLINE __m512i steps_of(const float* from, F high) {
  return _mm512_cvtps_epi32(_mm512_min_ps(high, _mm512_loadu_ps(from)));
}

ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
  const __m512i steps = _mm512_packs_epi32(steps_of(from, grid.high), steps_of(from + 16, grid.high));
  const Words sums = (Words)steps + grid.zero_point;
  const __m512i words = (__m512i)(sums > grid.least ? sums : grid.least);
  // Both packs work within quarters: restore the order of the groups of four.
  const Int bytes = (Int)_mm512_packus_epi16(words, words);
  const Half codes = __builtin_shufflevector(bytes ^ grid.flip, bytes, 0, 4, 8, 12, 1, 5, 9, 13);
  if (grid.stream && reinterpret_cast<std::uintptr_t>(to) % sizeof codes == 0) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)codes);
  } else {
    __builtin_memcpy(to, &codes, sizeof codes);
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
