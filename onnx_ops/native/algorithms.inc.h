// All algorithms, in the order in which they build on each other, for the vectors defined before, and the
// table of their instruction set.
#include "vectors.inc.h"
#include "norm.inc.h"
#include "tile.inc.h"
#include "row.inc.h"
#include "product.inc.h"
#include "matrices.inc.h"
#include "columns.inc.h"
#include "attention.inc.h"
#include "attention_codes.inc.h"
#include "quantized_attention.inc.h"
#include "linear.inc.h"
#include "winograd.inc.h"
#include "points.inc.h"
#include "branch_block.inc.h"
#include "branch_taps.inc.h"
#include "branch_tiles.inc.h"
#include "branch.inc.h"
#include "expand.inc.h"
#include "codes.inc.h"
#include "conv_output.inc.h"
#include "conv.inc.h"

#define DEFINE_KERNELS(function, name)                                                        \
  namespace quantface {                                                                       \
  namespace {                                                                                 \
  constexpr Kernels kKernels = {name, run_tiles, kConvKernels, kNormKernels,                  \
                                kAttentionKernels, quantized_attention_kernels, kRowKernels}; \
  }                                                                                           \
  const Kernels* function() { return &kKernels; }                                             \
  }
