// Attention's products: rows of signed codes, keys or channels of values, by columns, the block's queries.
// Included after matrices.inc.h.
//
// Rows are stored (steps / depth, kRows, depth, 4): steps of four bytes, `depth` of which a row has side by
// side. Columns, bytes up to 127 or shares, are (steps, kOutputs, 4).

// Of every CPU sums of int32, as no two products of bytes up to 127 leave int16.
using ByteDot = Dot<kShortRun == 0 ? Sums::kShort : Sums::kPairs>;

typedef std::uint16_t HalfWords __attribute__((vector_size(sizeof(I))));

// Shares as bytes, which two products sum: upper halves of 7 bits, then lower ones.
struct HalvedShares {
  using Sum = ByteDot;
  static constexpr int kKeys = 4;  // of a step
  static constexpr std::ptrdiff_t kHalf = kKeysOfBlock * kOutputs;

  // Shares of four keys from `key` on, by a vector of queries.
  ALWAYS_INLINE static void put(const I* four, int key, std::int8_t* share) {
    const HalfWords even = (HalfWords)(four[0] | four[2] << 16), odd = (HalfWords)(four[1] | four[3] << 16);
    store_as(share + key * kOutputs, even >> 7 | (odd << 1 & 0x7F00));
    store_as(share + key * kOutputs + kHalf, (even & 0x7F) | (odd << 8 & 0x7F00));
  }

  // Keys first to last - 1 have none.
  static void clear(int first, int last, std::int8_t* share) {
    const std::size_t count = static_cast<std::size_t>((last - first) * kOutputs);
    __builtin_memset(share + first * kOutputs, 0, count);
    __builtin_memset(share + first * kOutputs + kHalf, 0, count);
  }

  // put(r, v, sum) of kCount rows by product(columns, put).
  template <int kCount, class Product, class Put>
  ALWAYS_INLINE static void multiply(const std::int8_t* share, Product product, Put put) {
    I upper[kCount][2];
    product(share, [&](int r, int v, I part) { upper[r][v] = part << 7; });
    product(share + kHalf, [&](int r, int v, I part) { put(r, v, upper[r][v] + part); });
  }
};

#ifdef QUANTFACE_WORDS
// Shares and values as words: where sums of bytes' products take a multiplication of their own to become int32, this
// takes half as many.
struct WholeShares {
  using Sum = WordDot;
  static constexpr int kKeys = 2;

  ALWAYS_INLINE static void put(const I* four, int key, std::int8_t* share) {
    store_as(share + 2 * key * kOutputs, four[0] | four[1] << 16);
    store_as(share + (2 * key + 4) * kOutputs, four[2] | four[3] << 16);
  }

  static void clear(int first, int last, std::int8_t* share) {
    __builtin_memset(share + 2 * first * kOutputs, 0, static_cast<std::size_t>(2 * (last - first) * kOutputs));
  }

  template <int, class Product, class Put>
  ALWAYS_INLINE static void multiply(const std::int8_t* share, Product product, Put put) {
    product(share, put);
  }
};

using VectorShares = WholeShares;
#else
using VectorShares = HalvedShares;
#endif

// By vectors.
class VectorColumns {
 public:
  using Shares = VectorShares;
  static constexpr int kRows = quantface::kRows;
  static constexpr int kValueDepth = 1;

  static int key_depth(int) { return 1; }

  explicit VectorColumns(int) {}

  void take_queries(const std::int8_t*) const {}

  // put(r, v, sum) for row r and vector v of columns.
  template <class Put>
  ALWAYS_INLINE void multiply_keys(const std::int8_t* rows, const std::int8_t* columns, int steps, Put put) const {
    multiply<ByteDot>(rows, columns, steps, put, std::make_integer_sequence<int, kRows>{});
  }

  // For the first kCount rows.
  template <int kCount, class Put>
  ALWAYS_INLINE void multiply_values(const std::int8_t* rows, const std::int8_t* columns, int steps, Put put) const {
    multiply<Shares::Sum>(rows, columns, steps, put, std::make_integer_sequence<int, kCount>{});
  }

 private:
  template <class Sum, class Put, int... R>
  ALWAYS_INLINE static void multiply(const std::int8_t* rows, const std::int8_t* columns, int steps, Put put,
                                     std::integer_sequence<int, R...>) {
    Sum left[sizeof...(R)] = {}, right[sizeof...(R)] = {};
    const auto add = [](Dotted row, Dotted first, Dotted second, Sum& a, Sum& b) {
      a.add(first, row);
      b.add(second, row);
    };
    for (int i = 0; i < steps; ++i, rows += 4 * kRows, columns += 2 * kBytes) {
      const Dotted first = load_dotted(columns), second = load_dotted(columns + kBytes);
      (add(four_weights(rows + 4 * R), first, second, left[R], right[R]), ...);
    }
    (put(R, 0, (I)left[R].total()), ...);
    (put(R, 1, (I)right[R].total()), ...);
  }
};

#ifdef QUANTFACE_AMX
// Channels of a head up to which products of vectors are faster than those of tiles.
constexpr std::int64_t kNarrowHead = 24;

// By tiles. Sums are in tiles 0 and 1. Keys are in tile 2 and the queries in 3 and 4, values in 5 and shares in 6
// and 7.
class TileColumns {
 public:
  using Shares = HalvedShares;
  static constexpr int kRows = kTileRows;
  static constexpr int kValueDepth = 12;  // kPackedCodes keys

  // Of a key's steps.
  static int key_depth(int steps) { return tile_depth(steps); }

  explicit TileColumns(int key_steps)
      : depth_(key_depth(key_steps)), whole_(depth_ == key_steps), tiles_(config(depth_)) {}

  // Queries that tiles hold as a whole stay there.
  void take_queries(const std::int8_t* columns) const {
    if (whole_) load_queries(columns);
  }

  template <class Put>
  ALWAYS_INLINE void multiply_keys(const std::int8_t* rows, const std::int8_t* columns, int steps, Put put) const {
    const auto add = [&](const std::int8_t* row, const std::int8_t* column) {
      _tile_loadd(2, row, 4 * depth_);
      if (!whole_) load_queries(column);
      _tile_dpbsud(0, 2, 3);
      _tile_dpbsud(1, 2, 4);
    };
    multiply<kRows>(rows, columns, steps, depth_, add, put);
  }

  template <int kCount, class Put>
  ALWAYS_INLINE void multiply_values(const std::int8_t* rows, const std::int8_t* columns, int steps, Put put) const {
    const auto add = [](const std::int8_t* row, const std::int8_t* column) {
      _tile_loadd(5, row, 4 * kValueDepth);
      _tile_loadd(6, column, 2 * kBytes);
      _tile_dpbsud(0, 5, 6);
      _tile_loadd(7, column + kBytes, 2 * kBytes);
      _tile_dpbsud(1, 5, 7);
    };
    multiply<kCount>(rows, columns, steps, kValueDepth, add, put);
  }

 private:
  static TileConfig config(int depth) {
    TileConfig config{};
    config.set(0, kTileRows, kTileRows);
    config.set(1, kTileRows, kTileRows);
    config.set(2, kTileRows, depth);
    config.set(3, depth, kTileRows);
    config.set(4, depth, kTileRows);
    config.set(5, kTileRows, kValueDepth);
    config.set(6, kValueDepth, kTileRows);
    config.set(7, kValueDepth, kTileRows);
    return config;
  }

  static void load_queries(const std::int8_t* columns) {
    _tile_loadd(3, columns, 2 * kBytes);
    _tile_loadd(4, columns + kBytes, 2 * kBytes);
  }

  template <int kCount, class Add, class Put>
  ALWAYS_INLINE static void multiply(const std::int8_t* rows, const std::int8_t* columns, int steps, int depth,
                                     Add add, Put put) {
    alignas(64) std::int32_t sums[kTileRows * kOutputs];
    _tile_zero(0);
    _tile_zero(1);
    for (int i = 0; i < steps; i += depth) add(rows + 4 * i * kTileRows, columns + 2 * i * kBytes);
    _tile_stored(0, sums, sizeof(std::int32_t) * kOutputs);
    _tile_stored(1, sums + kWidth, sizeof(std::int32_t) * kOutputs);
    for (int r = 0; r < kCount; ++r) {
      put(r, 0, load_as<I>(sums + r * kOutputs));
      put(r, 1, load_as<I>(sums + r * kOutputs + kWidth));
    }
  }

  int depth_;
  bool whole_;
  Tiles tiles_;
};

using WideColumns = TileColumns;
#else
constexpr std::int64_t kNarrowHead = 0;
using WideColumns = VectorColumns;
#endif

// Where a step of the first of so many rows is, in bytes.
template <int kRows>
ALWAYS_INLINE std::ptrdiff_t step_at(int step, int depth) {
  return depth == 1 ? 4 * kRows * step : 4 * (step / depth * kRows * depth + step % depth);
}
