// What linear layers do in another way than convolutions: their channels are last already. Included
// after product.inc.h.

// Rows whose channels are no multiple of four get room for the last step.
void pad_lines(const ConvCall& c, std::int64_t first, std::int64_t last) {
  const std::int64_t channels = c.plan->geometry.channels, depth = c.padded_channels;
  for (std::int64_t row = first; row < last; ++row) {
    std::uint8_t* to = c.padded + row * depth;
    __builtin_memcpy(to, c.codes + row * channels, static_cast<std::size_t>(channels));
    __builtin_memset(to + channels, 0, static_cast<std::size_t>(depth - channels));
  }
}

// down @ x of kCount rows.
template <int kVectors, int kCount>
void project_some(const ConvCall& c, std::int64_t row) {
  constexpr int kRanks = kVectors * kWidth;
  const std::int64_t channels = c.plan->geometry.channels;
  for (std::int64_t block = 0; block < c.plan->rank_blocks; ++block) {
    float_product<kVectors, kCount>(c.x + row * channels, 1, channels, static_cast<int>(channels),
                                    c.plan->down + block * channels * kRanks, 0,
                                    c.low + row * c.low_row + block * kRanks, c.low_row);
  }
}

// The same of rows begin to end - 1.
template <int kVectors>
void project_lines(const ConvCall& c, std::int64_t begin, std::int64_t end) {
  constexpr int kLines = kTaken<kVectors>, kFewLines = few(kLines);
  std::int64_t row = begin;
  for (; row + kLines <= end; row += kLines) project_some<kVectors, kLines>(c, row);
  for (; row + kFewLines <= end; row += kFewLines) project_some<kVectors, kFewLines>(c, row);
  for (; row < end; ++row) project_some<kVectors, 1>(c, row);
}
