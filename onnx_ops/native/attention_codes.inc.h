// Codes of queries, keys and values for attention of integers. Included after attention.inc.h.

typedef std::uint8_t ByteOfEach __attribute__((vector_size(kWidth)));

constexpr int kQueryZero = 64;  // makes their codes positive

// 0, or not a number where v is none or infinite.
ALWAYS_INLINE F flaw(F v) { return v * 0.0f; }

// Width of a step; `flaws` makes it not a number where a value is none.
ALWAYS_INLINE F step_of(F most, F flaws, int top) {
  return most / static_cast<float>(top) + kLeastStep + flaws;
}

struct Quantized {
  float step;
  std::int32_t sum;  // of codes less their zero
};

// A query or a key: `to[place(i / 4) + i % 4]` becomes rint(x[i] / step) + zero, with step = max |x| / top, not a
// number where an x is not finite. x(i) are the values from the i-th on; codes beyond depth are `zero`.
template <class X, class Place>
Quantized quantize_row(X x, std::int64_t depth, int top, int zero, std::int8_t* to, Place place) {
  F most = {}, flaws = {};
  for (std::int64_t i = 0; i < depth; i += kWidth) {
    const F v = first_of(x(i), depth - i);
    most = larger(absolute(v), most);
    flaws += flaw(v);
  }
  const F step = step_of(F{} + largest_of(most), F{} + sum_of(flaws), top);
  I sums = {};
  for (std::int64_t i = 0; i < depth; i += kWidth) {
    const I steps = rounded(first_of(x(i), depth - i) / step);
    sums += steps;
    const ByteOfEach codes = __builtin_convertvector(steps + zero, ByteOfEach);
    for (int j = 0; j < kWidth && i + j < depth; j += 4) {
      std::uint32_t four;
      __builtin_memcpy(&four, reinterpret_cast<const char*>(&codes) + j, sizeof four);
      __builtin_memcpy(to + place(static_cast<int>(i + j) / 4), &four, sizeof four);
    }
  }
  return {step[0], sum_of(sums)};
}

void measure_columns(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last) {
  const AttentionCall& c = call.sizes;
  const std::int64_t row = call.row(), all = c.images * c.keys * row;
  const std::int64_t blocks = (row + kColumns - 1) / kColumns;
  for (std::int64_t item = first; item < last; ++item) {
    const std::int64_t image = item / blocks, begin = item % blocks * kColumns;
    const std::int64_t end = row - begin < kColumns ? row : begin + kColumns;
    for (std::int64_t i = begin; i < end; i += kWidth) {
      const float* key = c.key + image * c.keys * row + i;
      const float* value = c.value + image * c.keys * row + i;
      F total = {}, most = {}, flaws = {};
      for (std::int64_t from = 0; from < c.keys; from += kPackedKeys) {
        const std::int64_t to = c.keys - from < kPackedKeys ? c.keys : from + kPackedKeys;
        F sum = {};
        for (std::int64_t k = from; k < to; ++k) {
          sum += load_until(key + k * row, c.key + all);
          const F v = load_until(value + k * row, c.value + all);
          most = larger(absolute(v), most);
          flaws += flaw(v);
        }
        total += sum;
      }
      const F mean = total / static_cast<float>(c.keys);
      store_some(call.key_mean + image * row + i, mean, end - i);
      store_some(call.value_step + image * row + i, step_of(most, flaws, kValueTop), end - i);
    }
  }
}

constexpr int kScored = std::lcm(kColumnRows, 4);           // keys of whole rows, and of whole steps of values
constexpr int kGroup = std::lcm(kScored, 4 * kValueDepth);  // and of whole rows of values

// kPackedCodes keys, or values, of one head from `begin` on, in the order in which products read them.
// Keys that do not exist have no share.
struct Pack {
  static_assert(kPackedCodes % kGroup == 0 && kKeysOfBlock % kGroup == 0, "packs and blocks are whole groups");
  const QuantizedAttentionCall& call;
  const AttentionCall& c;
  std::int64_t head, begin;
  std::int64_t at, columns;  // of the head in a tensor, in means and steps
  std::int64_t all;          // values of a tensor

  Pack(const QuantizedAttentionCall& whole, std::int64_t item) : call(whole), c(whole.sizes) {
    const std::int64_t chunks = call.padded_keys() / kPackedCodes;
    head = item / chunks;
    begin = item % chunks * kPackedCodes;
    const std::int64_t image = head / c.heads, channel = head % c.heads * c.depth;
    at = image * c.keys * call.row() + channel;
    columns = image * call.row() + channel;
    all = c.images * c.keys * call.row();
  }

  void keys() const {
    const int depth = key_depth(static_cast<int>(call.key_steps()));
    const auto place = [&](int step) { return step_at(step, depth); };
    for (std::int64_t k = begin; k < begin + kPackedCodes; ++k) {
      const std::int64_t token = head * call.padded_keys() + k, row = token % kColumnRows;
      std::int8_t* to = call.key + ((token - row) * call.key_steps() + row * depth) * 4;
      const bool exists = k < c.keys;
      const auto value = [&](std::int64_t i) {
        if (!exists) return F{};
        return load_until(c.key + at + k * call.row() + i, c.key + all) - load(call.key_mean + columns + i);
      };
      const Quantized codes = quantize_row(value, c.depth, kKeyTop, 0, to, place);
      call.start[token] = exists ? -kQueryZero * codes.sum : 1;
      call.key_step[token] = exists ? codes.step : kNoScore;
    }
  }

  // Of channels beyond depth, too, which nobody reads.
  void values() const {
    constexpr int kTogether = kColumnRows < kWidth ? kColumnRows : kWidth;
    static_assert(kColumnRows % kTogether == 0, "no vector of rows is cut");
    for (std::int64_t i = 0; i < c.depth; i += kColumnRows) {
      std::int8_t* to = call.value + (head * call.depth_room() + i) * call.padded_keys() + begin * kColumnRows;
      for (int k = 0; k < kPackedCodes; k += 4) {
#pragma GCC unroll 2
        for (int r = 0; r < kColumnRows; r += kWidth) {
          const F step = load(call.value_step + columns + i + r);
          I four = {};
          for (int j = 0; j < 4 && begin + k + j < c.keys; ++j) {
            const F v = load_until(c.value + at + (begin + k + j) * call.row() + i + r, c.value + all);
            four |= (rounded(v / step) & 255) << 8 * j;
          }
          constexpr int kRowBytes = 4 * kValueDepth;
          std::int8_t* first = to + step_at(k / 4, kValueDepth) + kRowBytes * r;
          if constexpr (kValueDepth == 1) {
            __builtin_memcpy(first, &four, kRowBytes * kTogether);
          } else {
            for (int n = 0; n < kTogether; ++n) store_as(first + kRowBytes * n, four[n]);
          }
        }
      }
    }
  }
};

void pack_codes(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last) {
  for (std::int64_t item = first; item < last; ++item) {
    const Pack pack(call, item);
    pack.keys();
    pack.values();
  }
}
