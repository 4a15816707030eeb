// One tile of a rotation, for any vector type. Included after norm.inc.h by one file per instruction
// set, which defines
//
//   Grid                            constants of the codes, from a CodeGrid
//   encode                          the codes of 32 values
//   stream                          stores a vector, aligned, past the caches where the CPU can
//   fence                           orders stores that passed the caches by
//   half_to_float, float_to_half    16 values

#include "factors.inc.h"
#ifdef QUANTFACE_ENCODES_ROWS
#include "last_factor.inc.h"
#endif
#include "transpose.inc.h"
#include "tile_input.inc.h"

struct Tile : TileInput {
  std::uint8_t* codes;
  int order[kMaxSeed];
  const Grid grid;

  Tile(const Rotation& rotation, const ScratchLayout& layout, char* scratch)
      : TileInput(rotation, layout, scratch), grid(r.grid) {
    codes = reinterpret_cast<std::uint8_t*>(scratch + layout.codes);
    const int q = r.plan.seed - 1;
    for (int i = 0; i < kMaxSeed; ++i) {
      order[i] = r.plan.transposed && i > 0 && i <= q ? (q - (i - 1)) % q + 1 : i;
    }
  }

  void quantize(const float* from, std::uint8_t* to) {
    const int tile = r.tile;
    for (int t = 0; t < tile; t += 32) encode(from + t, to + t, grid);
  }

  // Rows first .. first + count - 1 are done: to y, or where they wait to be transposed.
  void emit(int first, int count) {
    for (int channel = first; channel < first + count; ++channel) {
      float* from = row_of(channel);
      if (r.gain_out != nullptr) {
        const F gain = F{} + r.gain_out[channel];
        for (int t = 0; t < r.tile; t += kWidth) store(from + t, load(from + t) * gain);
      }
      if (is_code(r.y_type)) {
        if (r.y_channels_last) {
          quantize(from, codes + channel * r.tile);
        } else if (columns == r.tile) {
          quantize(from, static_cast<std::uint8_t*>(r.y) + at(channel));
        } else {
          alignas(64) std::uint8_t padded[kMaxTile];
          quantize(from, padded);
          __builtin_memcpy(static_cast<std::uint8_t*>(r.y) + at(channel), padded, columns);
        }
      } else if (!r.y_channels_last) {
        if (r.y_type == Element::kFloat) {
          __builtin_memcpy(static_cast<float*>(r.y) + at(channel), from, columns * sizeof(float));
        } else {
          alignas(64) std::uint16_t halves[kMaxTile];
          for (int t = 0; t < r.tile; t += 16) float_to_half(from + t, halves + t);
          __builtin_memcpy(static_cast<std::uint16_t*>(r.y) + at(channel), halves,
                           columns * sizeof(std::uint16_t));
        }
      }
    }
  }

  // Whether y gets whole lines of codes, just as the last factor leaves them.
  bool writes_lines() const {
    return is_code(r.y_type) && !r.y_channels_last && r.gain_out == nullptr && columns == r.tile &&
           columns % kLineBytes == 0;
  }

  // Passes `level` and later on rows base .. base + count - 1, while they are in the cache.
  void finish(int level, int base, int count) {
    if (level == r.plan.passes) return emit(base, count);
    const int radix = r.plan.radix[level], stride = count / radix;
    const std::ptrdiff_t step = row_of(base + stride) - row_of(base);
#ifdef QUANTFACE_ENCODES_ROWS
    if (level > 0 && stride == 1 && radix > 2 && writes_lines()) {
      return last_factor(radix, row_of(base), step, columns, grid, static_cast<std::uint8_t*>(r.y) + at(base), r.pixels);
    }
#endif
    for (int j = 0; j < stride; ++j) {
      if (level == 0 && reads_in_place()) {
        first_factor(j, stride, step);
      } else {
        factor_pass(radix, row_of(base + j), step, order, r.tile);
      }
    }
    if (level + 1 == r.plan.passes) return emit(base, count);
    for (int i = 0; i < radix; ++i) finish(level + 1, base + i * stride, stride);
  }

  void run(std::int64_t index) {
    const std::int64_t per_image = (r.pixels + r.tile - 1) / r.tile;
    image = index / per_image;
    pixel = index % per_image * r.tile;
    columns = static_cast<int>(r.pixels - pixel < r.tile ? r.pixels - pixel : r.tile);
    if (r.x_channels_last) lines_in();
    if (!reads_in_place()) {
      for (int channel = 0; channel < r.plan.n; ++channel) gather(channel);
    }
    finish(0, 0, r.plan.n);
    if (r.y_channels_last) lines_out();
  }

  // Rows to channels-last pixels.
  void lines_out() {
    const int n = r.plan.n;
    if (is_code(r.y_type)) {
      std::uint8_t* y = static_cast<std::uint8_t*>(r.y);
      for (int t = 0; t < columns; t += 16) {
        const int count = columns - t < 16 ? columns - t : 16;
        int c = 0;
        for (; c + 16 <= n; c += 16) {
          transpose_bytes(codes + c * r.tile + t, r.tile, y + line_at(t) + c, n, count);
        }
        for (; c < n; ++c) {
          for (int i = 0; i < count; ++i) y[line_at(t + i) + c] = codes[c * r.tile + t + i];
        }
      }
      return;
    }
    for (int t = 0; t < columns; t += 4) {
      const int count = columns - t < 4 ? columns - t : 4;
      for (int c = 0; c < n; c += 4) {
        const int channels = n - c < 4 ? n - c : 4;
        if (channels == 4) {
          const float* from[4];
          for (int i = 0; i < 4; ++i) from[i] = row_of(c + i);
          transpose_4x4(from, t, lines + c, n);
        } else {
          for (int i = 0; i < 4; ++i) {
            for (int k = 0; k < channels; ++k) lines[i * n + c + k] = row_of(c + k)[t + i];
          }
        }
      }
      for (int i = 0; i < count; ++i) {
        const float* line = lines + i * n;
        if (r.y_type == Element::kFloat) {
          __builtin_memcpy(static_cast<float*>(r.y) + line_at(t + i), line, n * sizeof(float));
          continue;
        }
        std::uint16_t* to = static_cast<std::uint16_t*>(r.y) + line_at(t + i);
        int c = 0;
        for (; c + 16 <= n; c += 16) float_to_half(line + c, to + c);
        if (c < n) {
          float floats[16] = {};
          std::uint16_t halves[16];
          __builtin_memcpy(floats, line + c, (n - c) * sizeof(float));
          float_to_half(floats, halves);
          __builtin_memcpy(to + c, halves, (n - c) * sizeof(std::uint16_t));
        }
      }
    }
  }
};

void run_tiles(const Rotation& rotation, std::int64_t first, std::int64_t last, void* scratch) {
  Tile tile(rotation, scratch_layout(rotation), static_cast<char*>(scratch));
  for (std::int64_t index = first; index < last; ++index) tile.run(index);
  if (rotation.grid.stream) fence();
}
