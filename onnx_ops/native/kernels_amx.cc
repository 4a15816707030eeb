// Kernels for x86 CPUs with AVX-512 F, BW, DQ, VL and VNNI, and AMX's products of bytes.
#define QUANTFACE_VNNI
#define QUANTFACE_AMX
#include "avx512.inc.h"

DEFINE_KERNELS(amx_kernels, "amx")
