// Attention of several heads, as plain C++:
//
//   y = softmax(q k^T / sqrt(depth)) v
//
// by blocks of queries and of keys, so that no whole matrix of scores is ever held: each query keeps
// its largest score and the sum of exp(score - largest), and what was summed before a larger score is
// met is scaled then (Milakov and Gimelshein, "Online normalizer calculation for softmax"; Dao et al.,
// "FlashAttention"). Sums have one order for any number of threads. Kernels know no ONNX Runtime types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quantface {

constexpr std::int64_t kQueries = 48;     // of one block
constexpr std::int64_t kPackedKeys = 64;  // put into order at a time

struct AttentionCall {
  const float* query = nullptr;  // (images, queries, heads, depth)
  const float* key = nullptr;    // (images, keys, heads, depth)
  const float* value = nullptr;  // (images, keys, heads, depth)
  float* y = nullptr;            // (images, queries, heads, depth)
  std::int64_t images = 0, heads = 1, queries = 0, keys = 0, depth = 0;
  float* packed_key = nullptr;    // (images, heads, padded_keys / outputs, depth, outputs)
  float* packed_value = nullptr;  // (images, heads, padded_depth / width, keys, width): one vector, or two

  // Room for the outputs of any instruction set: 8, 16 or 32.
  std::int64_t padded_keys() const { return (keys + kPackedKeys - 1) / kPackedKeys * kPackedKeys; }
  std::int64_t padded_depth() const { return (depth + 31) / 32 * 32; }

  // Of one block: with its queries, they fit the second-level cache.
  std::int64_t key_block() const { return depth > 128 ? kPackedKeys : 4 * kPackedKeys; }

  std::int64_t packs() const { return images * heads * padded_keys() / kPackedKeys; }
  std::int64_t head_blocks() const { return (queries + kQueries - 1) / kQueries; }
  std::int64_t blocks() const { return images * heads * head_blocks(); }
};

struct AttentionKernels {
  std::size_t (*scratch_bytes)(const AttentionCall& call);
  // Packs first to last - 1, before any block.
  void (*pack)(const AttentionCall& call, std::int64_t first, std::int64_t last);
  // Blocks first to last - 1; `scratch` is aligned to 64 and the caller's.
  void (*run)(const AttentionCall& call, std::int64_t first, std::int64_t last, void* scratch);
};

}  // namespace quantface
