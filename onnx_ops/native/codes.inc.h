// Codes as a convolution's products read them: channels last, and Winograd's transform of tiles. Included
// after expand.inc.h.

// Channels-first rows of codes become channels-last ones, with the zero point around them and in
// channels that do not exist.
void pad_rows(const ConvCall& c, std::int64_t first, std::int64_t last, void*) {
  if (c.plan->linear) return pad_lines(c, first, last);
  const ConvGeometry& g = c.plan->geometry;
  const int zero = c.plan->zero_point;
  const std::int64_t depth = c.padded_channels, row_bytes = c.padded_width * depth;
  const std::int64_t plane = c.height * c.width, step = g.upsample * depth;
  const std::int64_t height = c.height * g.upsample, width = c.width * g.upsample;
  const std::int64_t end = last * c.pad_step < c.padded_rows ? last * c.pad_step : c.padded_rows;
  for (std::int64_t line = first * c.pad_step; line < end; ++line) {
    const std::int64_t row = c.row * g.stride[0] + line - g.pads[0];
    const bool inside = row >= 0 && row < height;
    std::uint8_t* to = c.padded + line * row_bytes;
    if (!inside || depth != g.channels) __builtin_memset(to, zero, row_bytes);
    if (!inside) continue;
    const std::int64_t left = g.pads[1], right = c.padded_width - left - width;
    __builtin_memset(to, zero, left * depth);
    if (right > 0) __builtin_memset(to + (left + width) * depth, zero, right * depth);
    const std::uint8_t* from = c.codes + c.image * g.channels * plane + row / g.upsample * c.width;
    to += left * depth;
    for (std::int64_t channel = 0; channel < g.channels; channel += 16) {
      const int channels = static_cast<int>(g.channels - channel < 16 ? g.channels - channel : 16);
      for (std::int64_t x = 0; x < c.width; x += 16) {
        const int count = static_cast<int>(c.width - x < 16 ? c.width - x : 16);
        const std::uint8_t* corner = from + channel * plane + x;
        // Rows of planes, which no CPU looks ahead to: those of the next channels, or of the next row.
        if (x % kLineBytes == 0) {
          const std::uint8_t* next = channel + 16 < g.channels ? corner + 16 * plane : from + c.width + x;
          for (int j = 0; j < 16; ++j) __builtin_prefetch(next + j * plane);
        }
        std::uint8_t* pixel = to + x * step + channel;
        for (std::int64_t copy = 0; copy < g.upsample; ++copy, pixel += depth) {
          if (channels == 16 && count == 16) {
            transpose_bytes(corner, plane, pixel, step, 16);
            continue;
          }
          if (channels == 8 && count == 16 && channel + 16 <= depth) {
            transpose_bytes<8>(corner, plane, pixel, step, 16, zero);
            continue;
          }
          for (int i = 0; i < count; ++i) {
            for (int j = 0; j < channels; ++j) pixel[i * step + j] = corner[j * plane + i];
          }
        }
      }
    }
  }
}

// V = B^T d B of one tile of codes, brought into the range of a byte by what `start` takes off again, of as many
// channels as a V has.
template <int kEdge, class V>
ALWAYS_INLINE void transform_channels(const std::uint8_t* from, std::ptrdiff_t row, std::ptrdiff_t depth,
                                      const std::uint8_t* offsets, std::uint8_t* to, std::ptrdiff_t plane) {
  constexpr int kPositions = tile_positions(kEdge);
  V v[kPositions];
  transform_codes<kEdge>([&](int i, int j) { return load_as<V>(from + i * row + j * depth); }, v);
#pragma GCC unroll 46
  for (int p = 0; p < kPositions; ++p) store_as(to + p * plane, v[p] + offsets[p]);
}

// Position p of channel c goes to to[p * plane + c]. `depth` is a multiple of half a vector.
template <int kEdge>
void transform_tile(const std::uint8_t* from, std::ptrdiff_t row, std::ptrdiff_t depth, int top,
                    std::uint8_t* to, std::ptrdiff_t plane) {
  constexpr int kPositions = tile_positions(kEdge);
  std::uint8_t offsets[kPositions];
#pragma GCC unroll 46
  for (int p = 0; p < kPositions; ++p) {
    offsets[p] = static_cast<std::uint8_t>(transform_offset(kEdge, kSigned, p, top));
  }
  for (std::ptrdiff_t c = 0; c < depth; c += kBytes) {
    for (int i = 0; i < kEdge + 2 && c % kLineBytes == 0; ++i) {  // what the next tile adds
      for (int j = 2; j < kEdge + 2; ++j) __builtin_prefetch(from + i * row + (j + kEdge) * depth + c);
    }
    depth - c < kBytes ? transform_channels<kEdge, HalfB>(from + c, row, depth, offsets, to + c, plane)
                       : transform_channels<kEdge, B>(from + c, row, depth, offsets, to + c, plane);
  }
}
