// Kernels for x86 CPUs with AVX-512 F, BW, DQ and VL.
#include "avx512.inc.h"

namespace quantface {
namespace {

constexpr Kernels kKernels = {"avx512", run_tiles, kConvKernels, kNormKernels};

}  // namespace

const Kernels* avx512_kernels() { return &kKernels; }

}  // namespace quantface
