// Products of codes by weights with AMX, whose instructions multiply matrices of 16 rows of codes by 16 filters,
// of up to 64 channels. Included after product.inc.h; without AMX nothing uses it.

#ifdef QUANTFACE_AMX
constexpr int kTileRows = 16;  // of a tile, the register of one matrix
constexpr int kMatrixRows = 2 * kTileRows;
static_assert(kWidth == kTileRows, "a vector of weights is a row of a tile");

// As the instruction that loads it defines it.
struct TileConfig {
  std::uint8_t palette, first_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];

  void set(int tile, int count, int fours) {
    palette = 1;
    rows[tile] = static_cast<std::uint8_t>(count);
    row_bytes[tile] = static_cast<std::uint16_t>(4 * fours);
  }
};

// This thread's tiles; in the end they are again what other code had made of them.
class Tiles {
 public:
  explicit Tiles(const TileConfig& config) {
    _tile_storeconfig(&before_);
    _tile_loadconfig(&config);
  }
  Tiles(const Tiles&) = delete;
  ~Tiles() { before_.palette == 0 ? _tile_release() : _tile_loadconfig(&before_); }

 private:
  TileConfig before_;
};

// Sums are in tiles 0 to 3, two for each 16 rows of codes, which are in 4 and 5; weights are in 6 and 7.
class Matrices {
 public:
  // Tiles take `depth` steps of four channels.
  explicit Matrices(int depth) : depth_(depth), tiles_(config(depth)) {}

  // out[r][f] = sum of rows[r][tap + c] * w[tap][c][f], for kMatrixRows rows and kVectors vectors of filters.
  // Rows and taps are in bytes; `steps`, of four channels, are a multiple of the depth.
  template <int kVectors>
  void multiply(const std::uint8_t* const* rows, const std::ptrdiff_t* taps, int tap_count, int steps,
                const std::int8_t* w, std::int32_t* out, std::ptrdiff_t out_row) const {
    const Rows upper(rows), lower(rows + kTileRows);
    alignas(64) std::uint8_t copies[2][kTileRows * kLineBytes];
    const std::ptrdiff_t step = 2 * kBytes;  // of weights
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int tap = 0; tap < tap_count; ++tap) {
      for (int i = 0; i < steps; i += depth_, w += depth_ * step) {
        const std::ptrdiff_t offset = taps[tap] + 4 * i;
        const Rows::Place a = upper.at(offset, depth_, copies[0]), b = lower.at(offset, depth_, copies[1]);
        _tile_loadd(6, w, step);
        _tile_loadd(4, a.from, a.row);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(5, b.from, b.row);
        _tile_dpbusd(2, 5, 6);
        if constexpr (kVectors == 2) {
          _tile_loadd(7, w + kBytes, step);
          _tile_dpbusd(1, 4, 7);
          _tile_dpbusd(3, 5, 7);
        }
      }
    }
    const std::ptrdiff_t row = out_row * std::ptrdiff_t{sizeof *out};
    std::int32_t* next = out + kTileRows * out_row;
    _tile_stored(0, out, row);
    _tile_stored(2, next, row);
    if constexpr (kVectors == 2) {
      _tile_stored(1, out + kWidth, row);
      _tile_stored(3, next + kWidth, row);
    }
  }

 private:
  // 16 rows of codes: loaded where they are, if each lies as far from the one before it, or copied.
  struct Rows {
    struct Place {
      const std::uint8_t* from;
      std::ptrdiff_t row;
    };

    explicit Rows(const std::uint8_t* const* rows) : from(rows), row(rows[1] - rows[0]), even(true) {
      for (int r = 2; r < kTileRows; ++r) even = even && rows[r] - rows[r - 1] == row;
    }

    ALWAYS_INLINE Place at(std::ptrdiff_t offset, int depth, std::uint8_t* copy) const {
      if (even) return {from[0] + offset, row};
      for (int r = 0; r < kTileRows; ++r) {
        const std::uint8_t* row_of = from[r] + offset;
        if (depth == kTileRows) {  // a size that the compiler knows
          __builtin_memcpy(copy + r * kLineBytes, row_of, kLineBytes);
        } else {
          __builtin_memcpy(copy + r * kLineBytes, row_of, static_cast<std::size_t>(4 * depth));
        }
      }
      return {copy, kLineBytes};
    }

    const std::uint8_t* const* from;
    std::ptrdiff_t row;
    bool even;
  };

  static TileConfig config(int depth) {
    TileConfig config{};
    for (int i = 0; i < 4; ++i) config.set(i, kTileRows, kTileRows);
    for (int i = 4; i < 6; ++i) config.set(i, kTileRows, depth);
    for (int i = 6; i < 8; ++i) config.set(i, depth, kTileRows);
    return config;
  }

  int depth_;
  Tiles tiles_;
};
#else
constexpr int kMatrixRows = 0;
#endif
