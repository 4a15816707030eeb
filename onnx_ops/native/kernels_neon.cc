// Kernels for every arm64 CPU.
#include "neon.inc.h"

DEFINE_KERNELS(neon_kernels, "neon")
