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

// down @ x by blocks of rows.
template <int kVectors>
void run_line_branch(const ConvCall& c, std::int64_t first, std::int64_t last) {
  constexpr int kRanks = kVectors * kWidth;
  const ConvPlan& plan = *c.plan;
  const std::int64_t channels = plan.geometry.channels;
  for (std::int64_t item = first; item < last; ++item) {
    const std::int64_t begin = item * c.low_block;
    const std::int64_t end = c.width - begin < c.low_block ? c.width : begin + c.low_block;
    for (int block = 0; block < plan.rank_blocks; ++block) {
      const float* down = plan.down + block * channels * kRanks;
      for (std::int64_t row = begin; row < end;) {
        const int count = end - row < kTaken<kVectors> ? 1 : kTaken<kVectors>;
        alignas(64) float sums[kTaken<kVectors> * kRanks];
        const float* x = c.x + row * channels;
        if (count == 1) {
          float_product_of_one<kVectors>(x, static_cast<int>(channels), down, 0, sums);
        } else {
          float_product<kVectors>(x, 1, channels, static_cast<int>(channels), down, 0, sums);
        }
        for (int i = 0; i < count; ++i) {
          __builtin_memcpy(c.low + (row + i) * c.low_row + std::int64_t{block} * kRanks,
                           sums + i * kRanks, kRanks * sizeof(float));
        }
        row += count;
      }
    }
  }
}
