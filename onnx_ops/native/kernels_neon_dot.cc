// Kernels for arm64 CPUs with the dot product of bytes, optional from Armv8.2 on.
#include "neon.inc.h"

DEFINE_KERNELS(neon_dot_kernels, "neon-dot")
