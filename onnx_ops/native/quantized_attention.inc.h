// Attention of integers. Included after attention_codes.inc.h.

// Of every CPU sums of int32, as no two products of bytes up to 127 leave int16.
constexpr Sums kExact = kShortRun == 0 ? Sums::kShort : Sums::kPairs;

// 2**v of what is not above 0, within 3e-6 of itself, which is less than shares of 14 bits show. As power, but
// nothing is contracted: the same bits on every CPU.
ALWAYS_INLINE F short_power(F v) {
  const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23
  v = larger(F{} - 126.0f, v);
  const F shifted = v + rounder, rest = v - (shifted - rounder);
  F p = rest * 9.582853235e-3f + 5.590642594e-2f;
  p = p * rest + 2.402409862e-1f;
  p = p * rest + 6.931241933e-1f;
  p = p * rest + 1.0f;
  return (F)((I)p + ((I)shifted << 23));  // n is in the lowest bits
}

struct QuantizedAttentionBlock {
  static constexpr auto kAll = std::make_integer_sequence<int, kRows>{};
  const QuantizedAttentionCall& call;
  const AttentionCall& c;
  // Bytes, or numbers, from one query to the next.
  const std::int64_t query_row = 4 * call.key_steps() + kTileGap;
  const std::int64_t share_row = 2 * kKeysOfBlock + kTileGap;
  const std::int64_t score_row = kKeysOfBlock + kLine, sum_row = c.padded_depth();
  float* sum;            // (kQueries, sum_row): of share * value
  float* score;          // (kQueries, score_row)
  float* weight;         // (kQueries): sums of shares
  std::int32_t* product; // (2, kRows, kOutputs)
  float* step;           // (kQueries): of scores, in the exponent
  float* largest;        // (kQueries): scores up to the last block, in steps
  float* found;          // (kQueries): the same in this block
  float* factor;         // (kQueries): of what was summed before this block
  std::uint8_t* query;   // (kQueries, query_row)
  std::uint8_t* share;   // (kQueries, share_row): upper halves, then lower ones

  static std::size_t bytes(const QuantizedAttentionCall& call) {
    const std::int64_t floats = call.sizes.padded_depth() + kKeysOfBlock + kLine + 5;
    const std::int64_t codes = 4 * call.key_steps() + 2 * kKeysOfBlock + 2 * kTileGap;
    return static_cast<std::size_t>(kQueries * (4 * floats + codes) + 8 * kRows * kOutputs);
  }

  QuantizedAttentionBlock(const QuantizedAttentionCall& all, void* scratch) : call(all), c(all.sizes) {
    static_assert(kQueries % kRows == 0 && kQueries % kWidth == 0, "blocks are whole products");
    static_assert(kPackedKeys % kOutputs == 0 && kPackedKeys % kBytes == 0, "and whole vectors");
    sum = static_cast<float*>(scratch);
    score = sum + kQueries * sum_row;
    weight = score + kQueries * score_row;
    product = reinterpret_cast<std::int32_t*>(weight + kQueries);
    step = reinterpret_cast<float*>(product + 2 * kRows * kOutputs);
    largest = step + kQueries;
    found = largest + kQueries;
    factor = found + kQueries;
    query = reinterpret_cast<std::uint8_t*>(factor + kQueries);
    share = query + kQueries * query_row;
  }

  void run(std::int64_t item) {
    const std::int64_t head = item / c.head_blocks(), begin = item % c.head_blocks() * kQueries;
    const std::int64_t count = c.queries - begin < kQueries ? c.queries - begin : kQueries;
    const std::int64_t image = head / c.heads, channel = head % c.heads * c.depth;
    const std::int64_t at = (image * c.queries + begin) * call.row() + channel;
    start(c.query + at, count);
    for (std::int64_t key = 0; key < c.padded_keys(); key += kKeysOfBlock) {
      const std::int64_t left = c.padded_keys() - key;
      add_keys(head, count, key, static_cast<int>(left < kKeysOfBlock ? left : kKeysOfBlock));
    }
    const float* value_step = call.value_step + image * call.row() + channel;
    const float* mean = call.key_mean + image * call.row() + channel;
    float wrong = 0;  // not a number where a key is none
    for (std::int64_t i = 0; i < c.depth; ++i) wrong += mean[i] * 0;
    for (std::int64_t q = 0; q < count; ++q) {
      const float part = 1 / (weight[q] + step[q] * 0 + wrong);
      for (std::int64_t i = 0; i < c.depth; ++i) {
        c.y[at + q * call.row() + i] = sum[q * sum_row + i] * part * value_step[i];
      }
    }
  }

  void start(const float* from, std::int64_t count) {
    constexpr double kLog2E = 1.4426950408889634;
    const float scale = static_cast<float>(kLog2E / __builtin_sqrt(static_cast<double>(c.depth)));
    const float* end = c.query + c.images * c.queries * call.row();
    for (std::int64_t q = 0; q < kQueries; ++q) {
      const float* x = from + (q < count ? q : count - 1) * call.row();
      const auto value = [&](std::int64_t i) { return load_until(x + i, end); };
      std::int8_t* to = reinterpret_cast<std::int8_t*>(query + q * query_row);
      step[q] = scale * quantize_row(value, c.depth, kQueryTop, kQueryZero, to, 4).step;
      largest[q] = kNoScore;
    }
    __builtin_memset(weight, 0, sizeof(float) * kQueries);
    __builtin_memset(sum, 0, sizeof(float) * static_cast<std::size_t>(kQueries * sum_row));
  }

  // `keys` keys from `key` on, for the first `count` queries.
  void add_keys(std::int64_t head, std::int64_t count, std::int64_t key, int keys) {
    const std::int64_t token = head * c.padded_keys() + key;
    multiply_keys(token, count, keys);
    for (std::int64_t q = 0; q < count; ++q) scale(call.key_step + token, keys, q);
    for (std::int64_t q = 0; q < count; q += kWidth) {
      const F before = load(largest + q), now = larger(load(found + q), before);
      store(factor + q, short_power((before - now) * load(step + q)));
      store(largest + q, now);
    }
    for (std::int64_t q = 0; q < count; ++q) weigh(keys, q);
    add_values(head, count, key, keys);
  }

  void multiply_keys(std::int64_t token, std::int64_t count, int keys) {
    const int steps = static_cast<int>(call.key_steps());
    for (int k = 0; k < keys; k += kOutputs) {
      for (std::int64_t q = 0; q < count; q += kRows) {
        const std::uint8_t* rows[kRows];
        for (int r = 0; r < kRows; ++r) rows[r] = query + (q + r) * query_row;
        product_rows<kExact>(rows, 0, steps, call.key + (token + k) * 4 * steps, call.start + token + k, 0,
                             reinterpret_cast<std::int32_t*>(score + q * score_row + k), score_row, kAll);
      }
    }
  }

  void add_values(std::int64_t head, std::int64_t count, std::int64_t key, int keys) {
    static const std::int32_t zeros[kOutputs] = {};
    for (std::int64_t i = 0; i < c.padded_depth(); i += kOutputs) {
      const std::int8_t* values =
          call.value + (head * c.padded_depth() + i) * c.padded_keys() + key * kOutputs;
      for (std::int64_t q = 0; q < count; q += kRows) {
        const std::uint8_t* rows[kRows];
        for (int r = 0; r < kRows; ++r) rows[r] = share + (q + r) * share_row;
        std::int32_t* low = product + kRows * kOutputs;
        product_rows<kExact>(rows, 0, keys / 4, values, zeros, 0, product, kOutputs, kAll);
        product_rows<kExact>(rows, kKeysOfBlock, keys / 4, values, zeros, 0, low, kOutputs, kAll);
        for (int r = 0; r < kRows; ++r) {
          for (int v = 0; v < kOutputs; v += kWidth) {
            const I both = (load_as<I>(product + r * kOutputs + v) << 7) + load_as<I>(low + r * kOutputs + v);
            float* to = sum + (q + r) * sum_row + i + v;
            store(to, load(to) * factor[q + r] + __builtin_convertvector(both, F));
          }
        }
      }
    }
  }

  // Scores of query `q`, sums of products, become multiples of its step.
  void scale(const float* key_step, int keys, std::int64_t q) {
    float* scores = score + q * score_row;
    F most = F{} + kNoScore;
    for (int k = 0; k < keys; k += kWidth) {
      const F v = __builtin_convertvector(load_as<I>(scores + k), F) * load(key_step + k);
      store(scores + k, v);
      most = larger(v, most);
    }
    found[q] = largest_of(most);
  }

  // Scores become shares. Their bytes are in the order in which whole vectors give them.
  void weigh(int keys, std::int64_t q) {
    const float* scores = score + q * score_row;
    std::uint8_t* to = share + q * share_row;
    const F now = F{} + largest[q], wide = F{} + step[q];
    I total = {};
    for (int k = 0; k < keys; k += kBytes, to += kBytes) {
      I part[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const F exponent = (load(scores + k + i * kWidth) - now) * wide;
        part[i] = rounded(short_power(exponent) * static_cast<float>(kShareTop));
        total += part[i];
      }
      const I even = part[0] | part[2] << 16, odd = part[1] | part[3] << 16, half = I{} + 0x7F007F;
      store_as(to, (even >> 7 & half) | (odd >> 7 & half) << 8);
      store_as(to + kKeysOfBlock, (even & half) | (odd & half) << 8);
    }
    weight[q] = weight[q] * factor[q] + static_cast<float>(sum_of(total));
  }
};

void run_quantized_attention(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last,
                             void* scratch) {
  QuantizedAttentionBlock block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
}

constexpr QuantizedAttentionKernels kQuantizedAttentionKernels = {
    QuantizedAttentionBlock::bytes, measure_columns, pack_codes, run_quantized_attention};
