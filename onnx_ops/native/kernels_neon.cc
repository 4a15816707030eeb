// Kernels for arm64 CPUs; every one has NEON with half-precision conversions.
#include <arm_neon.h>

#include <utility>

#include "kernels.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace quantface {
namespace {

typedef float F __attribute__((vector_size(16)));
constexpr int kWidth = 4;

struct Grid {
  float32x4_t low, high;
  int32x4_t zero_point;

  explicit Grid(const Rotation& r) {
    low = vdupq_n_f32(r.low);
    high = vdupq_n_f32(r.high);
    zero_point = vdupq_n_s32(r.zero_point);
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

ALWAYS_INLINE void fence() {}

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

#include "tile.inc.h"

constexpr Kernels kKernels = {"neon", run_tiles};

}  // namespace

const Kernels* neon_kernels() { return &kKernels; }

}  // namespace quantface
