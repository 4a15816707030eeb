// Kernels for any CPU.
#include "generic.inc.h"

DEFINE_KERNELS(generic_kernels, "generic")
