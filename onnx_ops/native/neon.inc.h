// Kernels for arm64 CPUs; every one has NEON with half-precision conversions. Included by
// kernels_neon.cc and, compiled for CPUs with the dot product of bytes, by kernels_neon_dot.cc.
#include <arm_neon.h>

#include <utility>

#include "kernels.h"

namespace quantface {
namespace {

typedef float F __attribute__((vector_size(16)));
typedef std::int32_t I __attribute__((vector_size(16)));
constexpr int kWidth = 4;

#include "portable.inc.h"

struct Grid {
  float32x4_t low, high;
  int32x4_t zero_point;

  explicit Grid(const CodeGrid& g) {
    low = vdupq_n_f32(g.low);
    high = vdupq_n_f32(g.high);
    zero_point = vdupq_n_s32(g.zero_point);
  }
};

// VMAXNM returns the number where the other operand is none.
ALWAYS_INLINE int16x4_t codes_of(const float* from, const Grid& grid) {
  const float32x4_t v = vminnmq_f32(vmaxnmq_f32(vld1q_f32(from), grid.low), grid.high);
  return vmovn_s32(vaddq_s32(vcvtnq_s32_f32(v), grid.zero_point));
}

ALWAYS_INLINE void encode(const float* from, std::uint8_t* to, const Grid& grid) {
#pragma GCC unroll 4
  for (int i = 0; i < 32; i += 8) {
    const int16x8_t words = vcombine_s16(codes_of(from + i, grid), codes_of(from + i + 4, grid));
    vst1_u8(to + i, vmovn_u16(vreinterpretq_u16_s16(words)));
  }
}

ALWAYS_INLINE void half_to_float(const std::uint16_t* from, float* to) {
  for (int i = 0; i < 16; i += 4) {
    vst1q_f32(to + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from + i))));
  }
}

ALWAYS_INLINE void float_to_half(const float* from, std::uint16_t* to) {
  for (int i = 0; i < 16; i += 4) {
    vst1_u16(to + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(from + i))));
  }
}

// Codes are signed here, which those of 8 bits do not fit: kWide widens them first, or takes 128 off.
#ifdef __ARM_FEATURE_DOTPROD
constexpr int kRows = 8;
constexpr int kShortRun = 0;
#else
constexpr int kRows = 4;
constexpr int kShortRun = 1;
#endif
constexpr bool kSigned = true;
constexpr int kMostCode = 127;

typedef int8x16_t Dotted;

ALWAYS_INLINE Dotted load_dotted(const std::int8_t* p) { return vld1q_s8(p); }

ALWAYS_INLINE Dotted four_codes(const std::uint8_t* p) {
  std::int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

ALWAYS_INLINE Dotted four_weights(const std::int8_t* p) {
  return four_codes(reinterpret_cast<const std::uint8_t*>(p));
}

template <Sums>
struct Dot {
  int32x4_t sums;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) {
    const uint8x16_t bytes = vreinterpretq_u8_s8(codes);
    const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
    const int16x8_t w0 = vmovl_s8(vget_low_s8(weights)), w1 = vmovl_high_s8(weights);
    const int32x4_t a = vpaddq_s32(vmull_s16(vget_low_s16(low), vget_low_s16(w0)),
                                   vmull_high_s16(low, w0));
    const int32x4_t b = vpaddq_s32(vmull_s16(vget_low_s16(low), vget_low_s16(w1)),
                                   vmull_high_s16(low, w1));
    sums = vaddq_s32(sums, vpaddq_s32(a, b));
  }
  ALWAYS_INLINE int32x4_t total() const { return sums; }
};

#ifdef __ARM_FEATURE_DOTPROD
template <>
struct Dot<Sums::kShort> {
  int32x4_t sums;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) { sums = vdotq_s32(sums, codes, weights); }
  ALWAYS_INLINE int32x4_t total() const { return sums; }
};

// code * weight = (code - 128) * weight + 64 * weight + 64 * weight
template <>
struct Dot<Sums::kWide> {
  int32x4_t sums;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) {
    const Dotted less = veorq_s8(codes, vdupq_n_s8(-128)), half = vdupq_n_s8(64);
    sums = vdotq_s32(vdotq_s32(vdotq_s32(sums, less, weights), half, weights), half, weights);
  }
  ALWAYS_INLINE int32x4_t total() const { return sums; }
};
#else
// Two sums for each of filters 0 and 1, and as many for 2 and 3.
template <>
struct Dot<Sums::kPairs> {
  int32x4_t low, high;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) {
    low = vpadalq_s16(low, vmull_s8(vget_low_s8(codes), vget_low_s8(weights)));
    high = vpadalq_s16(high, vmull_high_s8(codes, weights));
  }
  ALWAYS_INLINE int32x4_t total() const { return vpaddq_s32(low, high); }
};

// Eight sums of single products for filters 0 and 1, and as many for 2 and 3.
template <>
struct Dot<Sums::kShort> {
  int16x8_t low, high;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) {
    low = vmlal_s8(low, vget_low_s8(codes), vget_low_s8(weights));
    high = vmlal_high_s8(high, codes, weights);
  }
  ALWAYS_INLINE int32x4_t total() const {
    return vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
  }
};
#endif

ALWAYS_INLINE F fused(F a, F b, F c) { return vfmaq_f32(c, a, b); }

ALWAYS_INLINE void add_product(F& sum, F a, F b) { sum = fused(a, b, sum); }

#include "algorithms.inc.h"

}  // namespace
}  // namespace quantface
