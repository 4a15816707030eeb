// Kernels for x86 CPUs with AVX2, FMA and F16C.
#include "avx2.inc.h"

DEFINE_KERNELS(avx2_kernels, "avx2")
