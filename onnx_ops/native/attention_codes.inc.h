// Codes of queries, keys and values for attention of integers. Included after attention.inc.h.

constexpr int kQueryZero = 64;  // makes their codes positive

// 0, or not a number where v is none or infinite.
ALWAYS_INLINE F flaw(F v) { return v * 0.0f; }

// Width of a step; `flaws` makes it not a number where a value is none.
ALWAYS_INLINE F step_of(F most, F flaws, int top) {
  return most / static_cast<float>(top) + kLeastStep + flaws;
}

struct Quantized {
  F step;
  I sum;  // of codes less their zero
};

// Rows of x, queries or keys, as lanes: lines[i][r] = x(r, i), for r below kWidth. x(r, i) are the values of row r from
// the i-th on.
template <class X>
ALWAYS_INLINE void turn_rows(X x, std::int64_t depth, float* lines, std::ptrdiff_t line_row) {
  for (std::int64_t i = 0; i < depth; i += kWidth) {
    F rows[kWidth];
    for (int r = 0; r < kWidth; ++r) rows[r] = x(r, i);
    transpose_square(rows, lines + i * line_row, line_row, kWidth, false);
  }
}

// Their codes, rint(x / step) + zero with step = max |x| / top, not a number where an x is not finite. put(step, fours)
// takes four channels of each row; codes beyond depth are `zero`.
template <class Put>
ALWAYS_INLINE Quantized quantize_lanes(const float* lines, std::ptrdiff_t line_row, std::int64_t depth, int top,
                                       int zero, Put put) {
  F most = {}, flaws = {};
  for (std::int64_t i = 0; i < depth; ++i) {
    const F v = load(lines + i * line_row);
    most = larger(absolute(v), most);
    flaws += flaw(v);
  }
  const F step = step_of(most, flaws, top);
  I sums = {};
  for (std::int64_t i = 0; i < depth; i += 4) {
    I four = {};
    for (int j = 0; j < 4; ++j) {
      const I steps = i + j < depth ? rounded(load(lines + (i + j) * line_row) / step) : I{};
      sums += steps;
      four |= ((steps + zero) & 255) << 8 * j;
    }
    put(static_cast<int>(i / 4), four);
  }
  return {step, sums};
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

// kPackedCodes keys, or values, of one head from `begin` on, in the order in which products read them.
// Keys that do not exist have no share.
template <class Columns>
struct Pack {
  static constexpr int kRows = Columns::kRows;
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

  // By kWidth keys, whose channels are in `lines` meanwhile: depth_room * kWidth.
  void keys(float* lines) const {
    static_assert(kPackedCodes % kWidth == 0, "packs are whole vectors of keys");
    const int depth = Columns::key_depth(static_cast<int>(call.key_steps()));
    for (std::int64_t first = begin; first < begin + kPackedCodes; first += kWidth) {
      const auto value = [&](int k, std::int64_t i) {
        if (first + k >= c.keys) return F{};
        return load_until(c.key + at + (first + k) * call.row() + i, c.key + all) - load(call.key_mean + columns + i);
      };
      turn_rows(value, c.depth, lines, kWidth);
      const std::int64_t token = head * call.padded_keys() + first;
      std::int8_t* to[kWidth];
      for (int k = 0; k < kWidth; ++k) {
        const std::int64_t row = (token + k) % kRows;
        to[k] = call.key + ((token + k - row) * call.key_steps() + row * depth) * 4;
      }
      const auto put = [&](int step, I fours) {
        const std::ptrdiff_t place = step_at<kRows>(step, depth);
        for (int k = 0; k < kWidth; ++k) store_as(to[k] + place, fours[k]);
      };
      const Quantized codes = quantize_lanes(lines, kWidth, c.depth, kKeyTop, 0, put);
      store(call.key_step + token, codes.step);
      store_as(call.start + token, -kQueryZero * codes.sum);
      for (std::int64_t k = c.keys > first ? c.keys - first : 0; k < kWidth; ++k) {
        call.start[token + k] = 1;
        call.key_step[token + k] = kNoScore;
      }
    }
  }

  // Of channels beyond depth, too, which nobody reads.
  void values() const {
    constexpr int kTogether = kRows < kWidth ? kRows : kWidth, kDepth = Columns::kValueDepth;
    constexpr int kKeys = Columns::Shares::kKeys, kBits = 32 / kKeys;
    static_assert(kRows % kTogether == 0, "no vector of rows is cut");
    for (std::int64_t i = 0; i < c.depth; i += kRows) {
      std::int8_t* to =
          call.value + ((head * call.depth_room() + i) * call.padded_keys() + begin * kRows) * kBits / 8;
      for (int k = 0; k < kPackedCodes; k += kKeys) {
#pragma GCC unroll 2
        for (int r = 0; r < kRows; r += kWidth) {
          const F step = load(call.value_step + columns + i + r);
          I four = {};
          for (int j = 0; j < kKeys && begin + k + j < c.keys; ++j) {
            const F v = load_until(c.value + at + (begin + k + j) * call.row() + i + r, c.value + all);
            four |= (rounded(v / step) & ((1 << kBits) - 1)) << kBits * j;
          }
          constexpr int kRowBytes = 4 * kDepth;
          std::int8_t* first = to + step_at<kRows>(k / kKeys, kDepth) + kRowBytes * r;
          if constexpr (kDepth == 1) {
            __builtin_memcpy(first, &four, kRowBytes * kTogether);
          } else {
            for (int n = 0; n < kTogether; ++n) store_as(first + kRowBytes * n, four[n]);
          }
        }
      }
    }
  }
};

std::size_t pack_bytes(const QuantizedAttentionCall& call) {
  return sizeof(F) * static_cast<std::size_t>(call.depth_room());
}

template <class Columns>
void pack_codes(const QuantizedAttentionCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  for (std::int64_t item = first; item < last; ++item) {
    const Pack<Columns> pack(call, item);
    pack.keys(static_cast<float*>(scratch));
    pack.values();
  }
}
