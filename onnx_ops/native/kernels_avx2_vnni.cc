// Kernels for x86 CPUs with AVX2 and AVX-VNNI.
#define QUANTFACE_VNNI
#include "avx2.inc.h"

namespace quantface {
namespace {

constexpr Kernels kKernels = {"avx2-vnni", run_tiles, kConvKernels, kNormKernels};

}  // namespace

const Kernels* avx2_vnni_kernels() { return &kKernels; }

}  // namespace quantface
