// Kernels for every arm64 CPU.
#include "neon.inc.h"

namespace quantface {
namespace {

constexpr Kernels kKernels = {"neon", run_tiles, kConvKernels, kNormKernels};

}  // namespace

const Kernels* neon_kernels() { return &kKernels; }

}  // namespace quantface
