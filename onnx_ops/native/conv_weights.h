// The order in which kernels read the weights of a convolution.
#pragma once

#include "conv.h"

namespace quantface {

// Weights in planes, an even number, as bytes.
void join_planes(const ConvWeights& weights, std::int64_t count, std::int8_t* to);

// Puts steps first to last - 1 of one block of filters into `to`, where the block begins: (positions,
// steps, outputs, 4), with 0 for channels that do not exist and anything for filters. The weights are
// not in planes. False where a transformed weight is not a byte.
bool expand_weights(const Kernels& kernels, const ConvPlan& plan, const ConvWeights& weights,
                    int block, int first, int last, std::int8_t* to);

// Bytes of one block's weights in that order.
std::int64_t block_bytes(const ConvPlan& plan);

// sums[position][output] of a block's weights.
void sum_weights(const ConvPlan& plan, const std::int8_t* block, std::int32_t* sums);

// The largest code, or byte that Winograd's transform makes of codes, without its sign.
int largest_code(const Kernels& kernels, const ConvPlan& plan);

// At most `chunk` steps whose sums stay in int16, whatever the codes; 0 if one pair may leave it.
int longest_chunk(const Kernels& kernels, const ConvPlan& plan, const std::int8_t* block, int chunk);

}  // namespace quantface
