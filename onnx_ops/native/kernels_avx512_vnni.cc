// Kernels for x86 CPUs with AVX-512 F, BW, DQ, VL and VNNI.
#define QUANTFACE_VNNI
#include "avx512.inc.h"

DEFINE_KERNELS(avx512_vnni_kernels, "avx512-vnni")
