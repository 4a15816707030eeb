// Attention of integers. Included after attention_codes.inc.h.
//
// Lanes are queries: a vector has the scores of one key, or the sums of one channel, so that softmax needs no
// lane of another, four keys' shares are the bytes that the next product reads, and a head's channels fill
// rows of a product, not vectors.

// times * 2**v of what is not above 0, within 3e-6 of itself, which is less than shares of 14 bits show. As
// power, but the same bits on every CPU.
ALWAYS_INLINE F short_power(F v, float times) {
  const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23
  v = larger(F{} - 126.0f, v);
  const F shifted = v + rounder, rest = v - (shifted - rounder);
  F p = F{} + times * 9.582853235e-3f;
  for (const float c : {5.590642594e-2f, 2.402409862e-1f, 6.931241933e-1f, 1.0f}) p = fused(p, rest, F{} + times * c);
  return (F)((I)p + ((I)shifted << 23));  // n is in the lowest bits
}

template <class Columns>
struct QuantizedAttentionBlock {
  using Shares = typename Columns::Shares;
  static constexpr int kValueBytes = 4 / Shares::kKeys;
  static constexpr int kRows = Columns::kRows;
  static constexpr int kFewValues = kRows * 2 / 3;         // of a product, where more would not exist
  static constexpr int kScored = std::lcm(kRows, 4);       // keys of whole rows, and of whole steps of values
  static constexpr int kGroup = std::lcm(kScored, 4 * Columns::kValueDepth);  // and of whole rows of values
  static_assert(kPackedCodes % kGroup == 0 && kKeysOfBlock % kGroup == 0, "packs and blocks are whole groups");

  const QuantizedAttentionCall& call;
  const AttentionCall& c;
  const Columns products;
  float* sum;          // (depth_room, kOutputs): of share * value
  float* score;        // (kKeysOfBlock, kOutputs)
  float* step;         // (kOutputs): of scores, in the exponent
  float* largest;      // (kOutputs): scores up to the last block, in steps
  float* factor;       // (kOutputs): of what was summed before this block
  float* weight;       // (kOutputs): sums of shares
  std::int8_t* query;  // (key_steps, kOutputs, 4)
  std::int8_t* share;  // (2 * kKeysOfBlock, kOutputs)

  static std::size_t bytes(const QuantizedAttentionCall& call) {
    const std::int64_t floats = call.depth_room() + kKeysOfBlock + 4;
    return static_cast<std::size_t>(kOutputs * (4 * floats + 4 * call.key_steps() + 2 * kKeysOfBlock));
  }

  QuantizedAttentionBlock(const QuantizedAttentionCall& all, void* scratch)
      : call(all), c(all.sizes), products(static_cast<int>(all.key_steps())) {
    sum = static_cast<float*>(scratch);
    score = sum + call.depth_room() * kOutputs;
    step = score + kKeysOfBlock * kOutputs;
    largest = step + kOutputs;
    factor = largest + kOutputs;
    weight = factor + kOutputs;
    query = reinterpret_cast<std::int8_t*>(weight + kOutputs);
    share = query + call.key_steps() * 4 * kOutputs;
  }

  void run(std::int64_t item) {
    const std::int64_t blocks = (c.queries + kOutputs - 1) / kOutputs;
    const std::int64_t head = item / blocks, begin = item % blocks * kOutputs;
    const std::int64_t count = c.queries - begin < kOutputs ? c.queries - begin : kOutputs;
    const std::int64_t image = head / c.heads, channel = head % c.heads * c.depth;
    const std::int64_t at = (image * c.queries + begin) * call.row() + channel;
    start(c.query + at, count);
    for (std::int64_t key = 0; key < c.keys; key += kKeysOfBlock) {
      const std::int64_t left = c.keys - key < kKeysOfBlock ? c.keys - key : kKeysOfBlock;
      add_keys(head, key, static_cast<int>(left));
    }
    finish(image * call.row() + channel, c.y + at, count);
  }

  void start(const float* from, std::int64_t count) {
    constexpr double kLog2E = 1.4426950408889634;
    const float scale = static_cast<float>(kLog2E / __builtin_sqrt(static_cast<double>(c.depth)));
    const float* end = c.query + c.images * c.queries * call.row();
    for (std::int64_t q = 0; q < kOutputs; q += kWidth) {
      const auto value = [&](int r, std::int64_t i) {
        return load_until(from + (q + r < count ? q + r : count - 1) * call.row() + i, end);
      };
      turn_rows(value, c.depth, sum + q, kOutputs);
      const auto put = [&](int at, I fours) { store_as(query + 4 * (at * kOutputs + q), fours); };
      const Quantized codes = quantize_lanes(sum + q, kOutputs, c.depth, kQueryTop, kQueryZero, put);
      store(step + q, scale * codes.step);
      store(largest + q, F{} + kNoScore);
    }
    products.take_queries(query);
    __builtin_memset(weight, 0, sizeof(float) * kOutputs);
    __builtin_memset(sum, 0, sizeof(float) * static_cast<std::size_t>(call.depth_room() * kOutputs));
  }

  // `count` keys from `key` on.
  void add_keys(std::int64_t head, std::int64_t key, int count) {
    const int scored = (count + kScored - 1) / kScored * kScored, keys = (count + kGroup - 1) / kGroup * kGroup;
    multiply_keys(head * call.padded_keys() + key, scored);
    for (int v = 0; v < kOutputs; v += kWidth) weigh(scored, v);
    Shares::clear(scored, keys, share);
    const std::int64_t rows = kRows * kValueBytes;
    const std::int8_t* values = call.value + head * call.depth_room() * call.padded_keys() * kValueBytes + key * rows;
    for (std::int64_t i = 0; i < c.depth; i += kRows, values += rows * call.padded_keys()) {
      const auto add = c.depth - i > kFewValues ? add_values<kRows> : add_values<kFewValues>;
      add(*this, values, keys / Shares::kKeys, sum + i * kOutputs);
    }
  }

  // Scores of keys, those of `token` and on, in steps; factors of what was summed before.
  void multiply_keys(std::int64_t token, int keys) {
    F found[2] = {load(largest), load(largest + kWidth)};
    const std::int8_t* rows = call.key + token * 4 * call.key_steps();
    for (int k = 0; k < keys; k += kRows, rows += kRows * 4 * call.key_steps()) {
      score_rows(rows, token + k, score + k * kOutputs, found);
    }
    for (int v = 0; v < 2; ++v) {
      float* before = largest + v * kWidth;
      store(factor + v * kWidth, short_power((load(before) - found[v]) * load(step + v * kWidth), 1));
      store(before, found[v]);
    }
  }

  __attribute__((noinline)) void score_rows(const std::int8_t* rows, std::int64_t token, float* scores,
                                            F (&found)[2]) const {
    F most[2] = {found[0], found[1]};
    const float* key_step = call.key_step + token;
    const std::int32_t* starts = call.start + token;
    const auto put = [&](int r, int v, I sum) {
      const F value = __builtin_convertvector(sum + starts[r], F) * key_step[r];
      store(scores + r * kOutputs + v * kWidth, value);
      most[v] = larger(value, most[v]);
    };
    products.multiply_keys(rows, query, static_cast<int>(call.key_steps()), put);
    found[0] = most[0];
    found[1] = most[1];
  }

  // Scores of kWidth queries become shares, and these bytes.
  void weigh(int keys, int v) {
    const float* scores = score + v;
    const F now = load(largest + v), wide = load(step + v);
    I total = {};
    for (int k = 0; k < keys; k += 4) {
      I part[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const F exponent = (load(scores + (k + i) * kOutputs) - now) * wide;
        part[i] = rounded(short_power(exponent, kShareTop));
        total += part[i];
      }
      Shares::put(part, k, share + 4 * v);
    }
    store(weight + v, load(weight + v) * load(factor + v) + __builtin_convertvector(total, F));
  }

  // kCount channels of values by the shares of so many steps of keys.
  template <int kCount>
  __attribute__((noinline)) static void add_values(const QuantizedAttentionBlock& block, const std::int8_t* values,
                                                   int steps, float* sums) {
    const auto product = [&](const std::int8_t* columns, auto put) {
      block.products.template multiply_values<kCount>(values, columns, steps, put);
    };
    const auto add = [&](int r, int v, I part) {
      const std::int64_t at = r * kOutputs + v * kWidth;
      const F value = __builtin_convertvector(part, F);
      store(sums + at, load(sums + at) * load(block.factor + v * kWidth) + value);
    };
    Shares::template multiply<kCount>(block.share, product, add);
  }

  // Sums become values of `count` queries, from channel `column` of means and steps on.
  void finish(std::int64_t column, float* y, std::int64_t count) {
    const float* value_step = call.value_step + column;
    float wrong = 0;  // not a number where a key is none
    for (std::int64_t i = 0; i < c.depth; ++i) wrong += call.key_mean[column + i] * 0;
    for (int v = 0; v < kOutputs; v += kWidth) {
      const F part = 1.0f / (load(weight + v) + load(step + v) * 0.0f + wrong);
      for (std::int64_t i = 0; i < c.depth; ++i) {
        float* at = sum + i * kOutputs + v;
        store(at, load(at) * part * value_step[i]);
      }
    }
    float lines[kWidth * kWidth];
    for (std::int64_t q = 0; q < count; q += kWidth) {
      for (std::int64_t i = 0; i < c.depth; i += kWidth) {
        transpose_square(sum + i * kOutputs + q, kOutputs, lines, kWidth);
        for (int n = 0; n < kWidth && q + n < count; ++n) {
          store_some(y + (q + n) * call.row() + i, load(lines + n * kWidth), c.depth - i);
        }
      }
    }
  }
};

template <class Columns>
void run_quantized_attention(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last,
                             void* scratch) {
  QuantizedAttentionBlock<Columns> block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
}

template <class Columns>
constexpr QuantizedAttentionKernels kQuantizedAttention = {
    kOutputs,        QuantizedAttentionBlock<Columns>::kValueBytes,
    pack_bytes,      QuantizedAttentionBlock<Columns>::bytes,
    measure_columns, pack_codes<Columns>,
    run_quantized_attention<Columns>};

const QuantizedAttentionKernels& quantized_attention_kernels(std::int64_t depth) {
  return depth > kNarrowHead ? kQuantizedAttention<WideColumns> : kQuantizedAttention<VectorColumns>;
}
