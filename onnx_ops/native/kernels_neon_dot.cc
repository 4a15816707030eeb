// Kernels for arm64 CPUs with the dot product of bytes, optional from Armv8.2 on.
#include "neon.inc.h"

namespace quantface {
namespace {

constexpr Kernels kKernels = {"neon-dot", run_tiles, kConvKernels, kNormKernels};

}  // namespace

const Kernels* neon_dot_kernels() { return &kKernels; }

}  // namespace quantface
