// The order in which kernels read the weights of a convolution.
#pragma once

#include "conv.h"

namespace quantface {

// Weights in planes, an even number, as bytes.
void join_planes(const ConvWeights& weights, std::int64_t count, std::int8_t* to);

// Puts steps first to last - 1 of one block of filters into `to`, where the block begins: (positions,
// steps, outputs, 4), with 0 for channels that do not exist and anything for filters. The weights are
// not in planes. False where a transformed weight is not a byte.
bool expand_weights(const Kernels& kernels, const ConvPlan& plan, const ConvForm& form,
                    const ConvWeights& weights, int block, int first, int last, std::int8_t* to);

// sums[tap] of one filter's weights over all channels. They are not in planes.
void sum_taps(const ConvPlan& plan, const ConvWeights& weights, std::int64_t filter, int* sums);

// Values of the form's positions from those of the taps. It is linear: sums become sums.
void transform_taps(const ConvForm& form, const int* taps, int* values);

// The largest code, or byte that Winograd's transform makes of codes, without its sign.
int largest_code(const Kernels& kernels, const ConvPlan& plan, const ConvForm& form, int position);

// Marks where one position's sums in a block have to leave int16, as ConvKernels::mark does.
int mark_ends(const Kernels& kernels, const ConvPlan& plan, const ConvForm& form, int position,
              const std::int8_t* weights, std::uint64_t* ends);

}  // namespace quantface
