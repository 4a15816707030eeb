// Kernels for x86 CPUs with AVX-512 F, BW, DQ, VL and VNNI.
#define QUANTFACE_VNNI
#include "avx512.inc.h"

namespace quantface {
namespace {

constexpr Kernels kKernels = {"avx512-vnni", run_tiles, kConvKernels, kNormKernels};

}  // namespace

const Kernels* avx512_vnni_kernels() { return &kKernels; }

}  // namespace quantface
