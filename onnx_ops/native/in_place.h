// Sums in place, written as instructions: the compiler would do all products first, and keep the sums in
// memory for lack of registers.
#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace quantface {
namespace {

template <class Vector>
ALWAYS_INLINE void add_int16(Vector& sums, Vector v) {
  asm volatile("vpaddw %1, %0, %0" : "+v"(sums) : "v"(v));
}

template <class Vector>
ALWAYS_INLINE void add_int32(Vector& sums, Vector v) {
  asm volatile("vpaddd %1, %0, %0" : "+v"(sums) : "v"(v));
}

// Four products of unsigned codes by signed weights to each lane.
template <class Vector>
ALWAYS_INLINE void add_dots(Vector& sums, Vector codes, Vector weights) {
  if constexpr (sizeof(Vector) == 64) {
    asm volatile("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(codes), "v"(weights));
  } else {
    asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(codes), "x"(weights));
  }
}

}  // namespace
}  // namespace quantface
