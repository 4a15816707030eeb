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

// down @ x of kCount rows of x, the first of them `row`, in rows of `low`.
template <int kVectors, int kCount>
void project_some(const ConvCall& c, std::int64_t row, float* low) {
  constexpr int kRanks = kVectors * kWidth;
  const std::int64_t channels = c.plan->geometry.channels;
  for (std::int64_t block = 0; block < c.plan->rank_blocks; ++block) {
    float_product<kVectors, kCount>(c.x + row * channels, 1, channels, static_cast<int>(channels),
                                    c.plan->down + block * channels * kRanks, 0,
                                    low + block * kRanks, c.low_row);
  }
}

template <int kVectors>
void project_all(const ConvCall& c, std::int64_t begin, std::int64_t end, float* low) {
  constexpr int kLines = kTaken<kVectors>, kFewLines = few(kLines);
  std::int64_t row = begin;
  const auto to = [&] { return low + (row - begin) * c.low_row; };
  for (; row + kLines <= end; row += kLines) project_some<kVectors, kLines>(c, row, to());
  for (; row + kFewLines <= end; row += kFewLines) project_some<kVectors, kFewLines>(c, row, to());
  for (; row < end; ++row) project_some<kVectors, 1>(c, row, to());
}

// The same of rows begin to end - 1.
void project_lines(const ConvCall& c, std::int64_t begin, std::int64_t end, float* low) {
  c.plan->ranks == kWidth ? project_all<1>(c, begin, end, low) : project_all<2>(c, begin, end, low);
}
