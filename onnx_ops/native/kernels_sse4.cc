// Kernels for x86 CPUs with SSE4.1.
#include <immintrin.h>

#define QUANTFACE_SSE4
#include "generic.inc.h"

DEFINE_KERNELS(sse4_kernels, "sse4")
