// Kernels for x86 CPUs with AVX-512 F, BW, DQ and VL.
#include "avx512.inc.h"

DEFINE_KERNELS(avx512_kernels, "avx512")
