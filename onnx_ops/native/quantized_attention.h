// Attention of integers, as plain C++; onnx_ops/attention.py defines it.
//
// Queries have 7 bits and keys, less their mean, 8 bits with a step for each token and head; values have 8 bits
// with a step for each channel. Shares 2**(score - largest) have 14 bits, which two products of bytes sum, or one
// of words. Within a block of keys sums are exact; blocks are added as in attention.h.
#pragma once

#include "attention.h"

namespace quantface {

constexpr int kQueryTop = 63, kKeyTop = 127, kValueTop = 127, kShareTop = 16383;
constexpr float kLeastStep = 1e-30f;  // added to every step: zeros have one, and keys that do not exist no share
constexpr std::int64_t kPackedCodes = 48;   // keys put into order at a time
constexpr std::int64_t kKeysOfBlock = 480;  // at most
constexpr std::int64_t kColumns = 64;       // of tokens, measured at once

struct QuantizedAttentionCall {
  AttentionCall sizes;            // and the float tensors
  float* key_mean = nullptr;      // (images, heads * depth), with room beyond the last
  float* value_step = nullptr;    // the same
  float* key_step = nullptr;      // (images, heads, padded_keys)
  std::int32_t* start = nullptr;  // (images, heads, padded_keys), where scores begin
  std::int8_t* key = nullptr;     // (images, heads, padded_keys / rows, key_steps / n, rows, n, 4)
  std::int8_t* value = nullptr;   // (images, heads, depth_room / rows, padded_keys / keys of a step / n, rows, n, 4)

  std::int64_t row() const { return sizes.heads * sizes.depth; }
  std::int64_t key_steps() const { return (sizes.depth + 3) / 4; }
  std::int64_t padded_keys() const { return (sizes.keys + kPackedCodes - 1) / kPackedCodes * kPackedCodes; }
  // Channels of a head, with room for whole vectors and rows of any instruction set.
  std::int64_t depth_room() const { return sizes.depth + 16; }
  std::int64_t columns() const { return sizes.images * row() + 32; }
  std::int64_t tokens() const { return sizes.images * sizes.heads * padded_keys(); }
  std::int64_t column_blocks() const { return sizes.images * ((row() + kColumns - 1) / kColumns); }
  std::int64_t packs() const { return tokens() / kPackedCodes; }
};

struct QuantizedAttentionKernels {
  int queries;      // of one block
  int value_bytes;  // of each code
  std::size_t (*pack_bytes)(const QuantizedAttentionCall& call);     // of scratch, aligned to 64 and the caller's
  std::size_t (*scratch_bytes)(const QuantizedAttentionCall& call);  // the same of `run`
  // Column blocks first to last - 1: means of keys, steps of values.
  void (*measure)(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last);
  // Packs first to last - 1, after all columns.
  void (*pack)(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last, void* scratch);
  // Blocks first to last - 1, after all packs.
  void (*run)(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last, void* scratch);
};

}  // namespace quantface
