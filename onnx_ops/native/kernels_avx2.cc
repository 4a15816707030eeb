// Kernels for x86 CPUs with AVX2, FMA and F16C.
#include "avx2.inc.h"

namespace quantface {
namespace {

constexpr Kernels kKernels = {"avx2", run_tiles, kConvKernels, kNormKernels};

}  // namespace

const Kernels* avx2_kernels() { return &kKernels; }

}  // namespace quantface
