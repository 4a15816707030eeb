// Kernels for x86 CPUs with AVX2 and AVX-VNNI.
#define QUANTFACE_VNNI
#include "avx2.inc.h"

DEFINE_KERNELS(avx2_vnni_kernels, "avx2-vnni")
