// Kernels for any CPU: what the compiler makes of vectors of four floats, and half precision in
// software, rounded half to even as the hardware does it.
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

// By doubles, whose last bit is made odd where the sum is not exact, so that only the conversion rounds.
ALWAYS_INLINE F fused(F a, F b, F c) {
  typedef double D __attribute__((vector_size(32)));
  typedef std::int64_t Bits __attribute__((vector_size(32)));
  const D product = __builtin_convertvector(a, D) * __builtin_convertvector(b, D);
  const D more = __builtin_convertvector(c, D), sum = product + more, part = sum - product;
  const D rest = (product - (sum - part)) + (more - part);
  const Bits towards = ((Bits)rest ^ (Bits)sum) < 0 ? Bits{} - 1 : Bits{} + 1;
  const Bits moved = (rest != D{}) & (((Bits)sum & 1) == 0) & towards;
  return __builtin_convertvector((D)((Bits)sum + moved), F);
}

ALWAYS_INLINE void add_product(F& sum, F a, F b) { sum += a * b; }

#include "algorithms.inc.h"

}  // namespace
}  // namespace quantface

DEFINE_KERNELS(generic_kernels, "generic")
