// Attention. Included after product.inc.h.

constexpr float kNoScore = -3.4e38f;

// Values of one product: those of a small head fit one vector.
ALWAYS_INLINE std::int64_t value_width(const AttentionCall& c) {
  return c.depth <= kWidth ? kWidth : kOutputs;
}

// Keys and values of one head in the order in which float_product reads them.
void pack_attention(const AttentionCall& c, std::int64_t first, std::int64_t last) {
  const std::int64_t chunks = c.padded_keys() / kPackedKeys, row = c.heads * c.depth;
  const std::int64_t width = value_width(c);
  for (std::int64_t item = first; item < last; ++item) {
    const std::int64_t head = item / chunks, begin = item % chunks * kPackedKeys;
    const std::int64_t end = c.keys - begin < kPackedKeys ? c.keys : begin + kPackedKeys;
    const std::int64_t at = (head / c.heads * c.keys * c.heads + head % c.heads) * c.depth;
    float* keys = c.packed_key + head * c.padded_keys() * c.depth;
    for (std::int64_t block = begin; block < end; block += kOutputs) {
      const std::int64_t count = end - block < kOutputs ? end - block : kOutputs;
      for (std::int64_t i = 0; i < c.depth; ++i) {
        const float* from = c.key + at + block * row + i;
        float* to = keys + block * c.depth + i * kOutputs;
        for (std::int64_t k = 0; k < kOutputs; ++k) to[k] = k < count ? from[k * row] : 0;
      }
    }
    float* values = c.packed_value + head * c.keys * c.padded_depth();
    for (std::int64_t i = 0; i < c.depth; i += width) {
      const std::int64_t count = c.depth - i < width ? c.depth - i : width;
      for (std::int64_t k = begin; k < end; ++k) {
        float* to = values + i * c.keys + k * width;
        __builtin_memcpy(to, c.value + at + k * row + i, static_cast<std::size_t>(count) * sizeof(float));
        for (std::int64_t j = count; j < width; ++j) to[j] = 0;
      }
    }
  }
}

// 2**v of what is not above 0, at least 2**-126, within 2 units in the last place: 2**n times a
// polynomial of the rest. Not a number stays that.
ALWAYS_INLINE F power(F v) {
  const F rounder = F{} + 12582912.0f;  // 1.5 * 2**23
  v = larger(F{} - 126.0f, v);
  const F shifted = v + rounder, rest = v - (shifted - rounder);
  F p = F{} + 1.327647129e-3f;
  for (const float c : {9.675541893e-3f, 5.550713092e-2f, 2.402212024e-1f, 6.931469440e-1f, 1.0f}) {
    F sum = F{} + c;
    add_product(sum, p, rest);
    p = sum;
  }
  return (F)((I)p + ((I)shifted << 23));  // n is in the lowest bits
}

struct AttentionBlock {
  const AttentionCall& c;
  // Floats from one row to the next, off the powers of two.
  const std::int64_t query_row = c.depth + kLine, score_row = c.key_block() + kLine;
  const std::int64_t sum_row = c.padded_depth();
  float* query;    // (kQueries, query_row): times log2(e) / sqrt(depth)
  float* sum;      // (kQueries, sum_row): of 2**(score - largest) * value
  float* score;    // (kQueries, score_row)
  float* largest;  // (kQueries)
  float* weight;   // (kQueries): sum of 2**(score - largest)

  static std::size_t bytes(const AttentionCall& c) {
    const std::int64_t row = c.depth + kLine + c.padded_depth() + c.key_block() + kLine + 2;
    return sizeof(float) * static_cast<std::size_t>(kQueries * row);
  }

  AttentionBlock(const AttentionCall& call, void* scratch) : c(call) {
    static_assert(kQueries % kTaken<1> == 0 && kQueries % kTaken<2> == 0 && kPackedKeys % kOutputs == 0,
                  "blocks are whole products");
    query = static_cast<float*>(scratch);
    sum = query + kQueries * query_row;
    score = sum + kQueries * sum_row;
    largest = score + kQueries * score_row;
    weight = largest + kQueries;
  }

  void run(std::int64_t item) {
    const std::int64_t head = item / c.head_blocks(), begin = item % c.head_blocks() * kQueries;
    const std::int64_t count = c.queries - begin < kQueries ? c.queries - begin : kQueries;
    const std::int64_t row = c.heads * c.depth;
    const std::int64_t at =
        ((head / c.heads * c.queries + begin) * c.heads + head % c.heads) * c.depth;
    start(c.query + at, count, row);
    for (std::int64_t key = 0; key < c.keys; key += c.key_block()) {
      const std::int64_t keys = c.keys - key < c.key_block() ? c.keys - key : c.key_block();
      add_keys(head, count, key, static_cast<int>(keys));
    }
    for (std::int64_t q = 0; q < count; ++q) {
      const float share = 1 / weight[q];
      for (std::int64_t i = 0; i < c.depth; ++i) c.y[at + q * row + i] = sum[q * sum_row + i] * share;
    }
  }

  void start(const float* from, std::int64_t count, std::int64_t row) {
    constexpr double kLog2E = 1.4426950408889634;
    const float scale = static_cast<float>(kLog2E / __builtin_sqrt(static_cast<double>(c.depth)));
    for (std::int64_t q = 0; q < kQueries; ++q) {
      for (std::int64_t i = 0; i < c.depth; ++i) {
        query[q * query_row + i] = q < count ? from[q * row + i] * scale : 0;
      }
      largest[q] = kNoScore;
      weight[q] = 0;
    }
    __builtin_memset(sum, 0, sizeof(float) * static_cast<std::size_t>(kQueries * sum_row));
  }

  // `keys` keys from `key` on, for the first `count` queries. Blocks of keys and of values stay in the
  // first-level cache while all queries pass.
  void add_keys(std::int64_t head, std::int64_t count, std::int64_t key, int keys) {
    const float* packed = c.packed_key + (head * c.padded_keys() + key) * c.depth;
    for (int k = 0; k < keys; k += kOutputs) {
      for (std::int64_t q = 0; q < count; q += kTaken<2>) {
        float_product(query + q * query_row, 1, query_row, static_cast<int>(c.depth),
                      packed + k * c.depth, 0, score + q * score_row + k, score_row);
      }
    }
    for (std::int64_t q = 0; q < count; ++q) weigh(score + q * score_row, keys, q);
    const std::int64_t width = value_width(c);
    const auto product = width == kWidth ? float_product<1> : float_product<2>;
    const int taken = width == kWidth ? kTaken<1> : kTaken<2>;
    const float* values = c.packed_value + head * c.keys * c.padded_depth() + key * width;
    for (std::int64_t i = 0; i < c.depth; i += width) {
      for (std::int64_t q = 0; q < count; q += taken) {
        product(score + q * score_row, 1, score_row, keys, values + i * c.keys, 1, sum + q * sum_row + i,
                sum_row);
      }
    }
  }

  // Scores of query `q` become 2**(score - largest).
  void weigh(float* scores, int keys, std::int64_t q) {
    int padded = keys;
    for (; padded % kWidth; ++padded) scores[padded] = kNoScore;
    F most = load(scores);
    for (int k = kWidth; k < padded; k += kWidth) most = larger(load(scores + k), most);
    const float found = largest_of(most), now = found > largest[q] ? found : largest[q];
    if (now > largest[q]) {
      const float factor = power(F{} + (largest[q] - now))[0];
      float* row = sum + q * sum_row;
      for (std::int64_t i = 0; i < sum_row; i += kWidth) store(row + i, load(row + i) * factor);
      weight[q] *= factor;
      largest[q] = now;
    }
    F total = {};
    for (int k = 0; k < padded; k += kWidth) {
      const F share = power(load(scores + k) - now);
      store(scores + k, share);
      total += share;
    }
    weight[q] += sum_of(total);
  }
};

void run_attention(const AttentionCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  AttentionBlock block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
}

constexpr AttentionKernels kAttentionKernels = {AttentionBlock::bytes, pack_attention, run_attention};
