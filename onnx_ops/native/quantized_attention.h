// Attention of integers, as plain C++; onnx_ops/quantized_attention.py defines it.
//
// Queries have 7 bits and keys, less their mean, 8 bits with a step for each token and head; values have 8 bits
// with a step for each channel. Shares 2**(score - largest) have 14 bits, which two products of bytes sum.
// Within a block of keys sums are exact; blocks are added as in attention.h.
#pragma once

#include "attention.h"

namespace quantface {

constexpr int kQueryTop = 63, kKeyTop = 127, kValueTop = 127, kShareTop = 16383;
constexpr float kLeastStep = 1e-30f;  // added to every step: zeros have one, and keys that do not exist no share
constexpr std::int64_t kKeysOfBlock = 512;  // at most
constexpr std::int64_t kColumns = 64;       // of tokens, measured at once

struct QuantizedAttentionCall {
  AttentionCall sizes;            // and the float tensors
  float* key_mean = nullptr;      // (images, heads * depth), with room for padded_depth from any head on
  float* value_step = nullptr;    // the same
  float* key_step = nullptr;      // (images, heads, padded_keys)
  std::int32_t* start = nullptr;  // (images, heads, padded_keys), where scores begin
  std::int8_t* key = nullptr;     // (images, heads, padded_keys / outputs, key_steps, outputs, 4)
  std::int8_t* value = nullptr;   // (images, heads, padded_depth / outputs, padded_keys / 4, outputs, 4)

  std::int64_t row() const { return sizes.heads * sizes.depth; }
  std::int64_t key_steps() const { return (sizes.depth + 3) / 4; }
  std::int64_t columns() const { return sizes.images * row() + sizes.padded_depth(); }
  std::int64_t tokens() const { return sizes.images * sizes.heads * sizes.padded_keys(); }
  std::int64_t column_blocks() const { return sizes.images * ((row() + kColumns - 1) / kColumns); }
};

struct QuantizedAttentionKernels {
  std::size_t (*scratch_bytes)(const QuantizedAttentionCall& call);
  // Column blocks first to last - 1: means of keys, steps of values.
  void (*measure)(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last);
  // Packs first to last - 1, after all columns.
  void (*pack)(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last);
  // Blocks first to last - 1, after all packs; `scratch` is aligned to 64 and the caller's.
  void (*run)(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last, void* scratch);
};

}  // namespace quantface
