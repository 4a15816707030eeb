// Kernels for any CPU: what the compiler makes of vectors of four floats, with half precision and fused multiply-adds
// in software, rounded half to even as hardware does it. Included by kernels_generic.cc and, where codes and products of
// bytes are instructions, by kernels_sse4.cc.
#include <utility>

#include "kernels.h"

namespace quantface {
namespace {

typedef float F __attribute__((vector_size(16)));
typedef std::int32_t I __attribute__((vector_size(16)));
constexpr int kWidth = 4;

#include "portable.inc.h"

ALWAYS_INLINE std::uint32_t bits_of(float v) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}

ALWAYS_INLINE float float_of(std::uint32_t bits) {
  float v;
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}

#ifdef QUANTFACE_SSE4
#include "sse4_codes.inc.h"
#else
struct Grid {
  F low, high, rounder;
  std::uint32_t zero_point;

  explicit Grid(const CodeGrid& g) {
    low = F{} + g.low;
    high = F{} + g.high;
    rounder = F{} + 12582912.0f;
    zero_point = static_cast<std::uint32_t>(g.zero_point);
  }
};

// Adding 1.5 * 2**23 rounds half to even and leaves the integer in the low bits. A comparison
// with what is not a number is false.
ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
  std::uint32_t bits[32];
  for (int i = 0; i < 32; i += kWidth) {
    F v;
    __builtin_memcpy(&v, from + i, sizeof v);
    v = v > grid.low ? v : grid.low;
    v = (v < grid.high ? v : grid.high) + grid.rounder;
    __builtin_memcpy(bits + i, &v, sizeof v);
  }
  for (int i = 0; i < 32; ++i) to[i] = static_cast<std::uint8_t>(bits[i] + grid.zero_point);
}
#endif

ALWAYS_INLINE float widen_half(std::uint32_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7FFFu;
  if (magnitude >= 0x7C00u) {  // infinite, or not a number and then made quiet
    const std::uint32_t quiet = magnitude > 0x7C00u ? 0x00400000u : 0u;
    return float_of(sign | 0x7F800000u | (magnitude & 0x03FFu) << 13 | quiet);
  }
  if (magnitude < 0x0400u) {  // steps of 2**-24
    return float_of(sign | bits_of(float_of((magnitude << 13) + 0x38800000u) - 0x1p-14f));
  }
  return float_of(sign | ((magnitude << 13) + 0x38000000u));
}

ALWAYS_INLINE std::uint16_t narrow_float(float v) {
  const std::uint32_t bits = bits_of(v);
  const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  std::uint32_t half;
  if (magnitude > 0x7F800000u) {
    half = 0x7E00u | (magnitude >> 13 & 0x01FFu);
  } else if (magnitude >= 0x477FF000u) {  // rounds to 65536 or more
    half = 0x7C00u;
  } else if (magnitude < 0x38800000u) {  // below 2**-14: steps of 2**-24, the last bit of 0.5
    half = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
  } else {
    half = (magnitude - 0x38000000u + 0x0FFFu + (magnitude >> 13 & 1u)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

ALWAYS_INLINE void half_to_float(const std::uint16_t* from, float* to) {
  for (int i = 0; i < 16; ++i) to[i] = widen_half(from[i]);
}

ALWAYS_INLINE void float_to_half(const float* from, std::uint16_t* to) {
  for (int i = 0; i < 16; ++i) to[i] = narrow_float(from[i]);
}

#ifdef QUANTFACE_SSE4
#include "sse4_dot.inc.h"
#else
constexpr int kRows = 2;
constexpr bool kSigned = false;
constexpr int kMostCode = 255;
constexpr int kShortRun = 0;

struct Dotted {
  std::int32_t bytes[16];
};

ALWAYS_INLINE Dotted load_dotted(const std::int8_t* p) {
  Dotted v;
  for (int i = 0; i < 16; ++i) v.bytes[i] = p[i];
  return v;
}

ALWAYS_INLINE Dotted four_codes(const std::uint8_t* p) {
  Dotted v;
  for (int i = 0; i < 16; ++i) v.bytes[i] = p[i % 4];
  return v;
}

ALWAYS_INLINE Dotted four_weights(const std::int8_t* p) {
  Dotted v;
  for (int i = 0; i < 16; ++i) v.bytes[i] = p[i % 4];
  return v;
}

// Always in int32.
template <Sums>
struct Dot {
  I sums;
  ALWAYS_INLINE void add(const Dotted& codes, const Dotted& weights) {
    for (int f = 0; f < 4; ++f) {
      std::int32_t sum = 0;
      for (int i = 4 * f; i < 4 * f + 4; ++i) sum += codes.bytes[i] * weights.bytes[i];
      sums[f] += sum;
    }
  }
  ALWAYS_INLINE I total() const { return sums; }
};
#endif

typedef double D __attribute__((vector_size(16)));
typedef float Pair __attribute__((vector_size(8)));

template <int kFirst>
ALWAYS_INLINE D doubles(F v) {
  return __builtin_convertvector(__builtin_shufflevector(v, v, kFirst, kFirst + 1), D);
}

// a * b + c by doubles, whose last bit is made odd where the sum is not exact, so that only the conversion rounds.
float fused_by_odd(float a, float b, float c) {
  const double product = static_cast<double>(a) * static_cast<double>(b), more = static_cast<double>(c);
  const double sum = product + more, part = sum - product;
  const double rest = (product - (sum - part)) + (more - part);
  std::int64_t bits;
  __builtin_memcpy(&bits, &sum, sizeof bits);
  if (rest != 0 && bits % 2 == 0) bits += (rest < 0) == (bits < 0) ? 1 : -1;
  double odd;
  __builtin_memcpy(&odd, &bits, sizeof odd);
  return static_cast<float>(odd);
}

// What is not 0 where a sum that is rounded to a float could differ from the exact one rounded at once: if it lies between
// two floats, which the lower half of a double tells, or below 2**-126, where they lie farther apart.
ALWAYS_INLINE I rounded_twice(D sum) {
  constexpr std::int32_t kBelow = (1 << 29) - 1, kBetween = 1 << 28;  // bits that a float has not, and half of them
  constexpr std::int32_t kExponent = 0x7FF << 20, kNormal = (1023 - 126) << 20;
  const I bits = (I)sum & I{kBelow, kExponent, kBelow, kExponent};
  return (bits == I{kBetween, -1, kBetween, -1}) | (bits < I{-1, kNormal, -1, kNormal});
}

ALWAYS_INLINE F fused(F a, F b, F c) {
  const D low = doubles<0>(a) * doubles<0>(b) + doubles<0>(c), high = doubles<2>(a) * doubles<2>(b) + doubles<2>(c);
  typedef std::int64_t Bits __attribute__((vector_size(16)));
  const Bits found = (Bits)(rounded_twice(low) | rounded_twice(high));
  if ((found[0] | found[1]) == 0) {
    const Pair first = __builtin_convertvector(low, Pair), last = __builtin_convertvector(high, Pair);
    return __builtin_shufflevector(first, last, 0, 1, 2, 3);
  }
  F v;
  for (int i = 0; i < kWidth; ++i) v[i] = fused_by_odd(a[i], b[i], c[i]);
  return v;
}

ALWAYS_INLINE void add_product(F& sum, F a, F b) { sum += a * b; }

#include "algorithms.inc.h"

}  // namespace
}  // namespace quantface
