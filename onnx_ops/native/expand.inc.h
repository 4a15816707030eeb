// Weights of four bits in the order of the products, and where sums of products have to leave int16, for
// any vector type. Included after product.inc.h.

typedef std::uint8_t B __attribute__((vector_size(4 * kWidth)));
typedef std::uint8_t HalfB __attribute__((vector_size(2 * kWidth)));
typedef std::uint16_t Pairs __attribute__((vector_size(4 * kWidth)));
typedef std::int16_t Halves __attribute__((vector_size(4 * kWidth)));

// Sums of the weights' pairs that products take, of each sign.
struct PairSums {
  Halves plus[2] = {}, minus[2] = {};

  ALWAYS_INLINE void add(const PairSums& other) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      plus[v] += other.plus[v];
      minus[v] += other.minus[v];
    }
  }

  ALWAYS_INLINE bool above(Halves limit, bool both) const {
    typedef std::int64_t Longs __attribute__((vector_size(4 * kWidth)));
    Halves found = {};
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      found |= both ? (Halves)(plus[v] + minus[v] > limit)
                    : (Halves)(plus[v] > limit) | (Halves)(minus[v] > limit);
    }
    std::int64_t any = 0;
    for (int i = 0; i < kWidth / 2; ++i) any |= ((Longs)found)[i];
    return any != 0;
  }
};

int mark_sums(const std::int8_t* weights, int steps, int limit, bool both, std::uint64_t* ends) {
  const Halves zero = {}, most = zero + static_cast<std::int16_t>(limit);
  PairSums sums;
  int count = 0;
  for (int step = 0; step < steps; ++step, weights += 4 * kOutputs) {
    PairSums alone;
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const Halves pair = load_as<Halves>(weights + v * kBytes), even = pair << 8 >> 8, odd = pair >> 8;
      alone.plus[v] = (even > zero ? even : zero) + (odd > zero ? odd : zero);
      alone.minus[v] = alone.plus[v] - even - odd;
    }
    sums.add(alone);
    if (!sums.above(most, both)) continue;
    if (alone.above(most, both)) return -1;
    ends[(step - 1) / 64] |= std::uint64_t{1} << (step - 1) % 64;
    sums = alone;
    ++count;
  }
  return count;
}

// The bytes that hold taps t to t + 3 of four channels, four bytes for each tap; `from` is where tap
// t of the first channel is.
ALWAYS_INLINE Quad four_taps(const std::uint8_t* from) {
  const Bytes v = load_as<Bytes>(from);
  return (Quad)__builtin_shufflevector(v, v, 0, 4, 9, 13, 0, 5, 9, 14, 1, 5, 10, 14, 1, 6, 10, 15);
}

// The same of four filters, sorted by taps: to[tap * kOutputs + filter].
ALWAYS_INLINE void gather_taps(const std::uint8_t* const* from, float* to) {
  Quad low[4], high[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    low[i] = four_taps(from[i]);
    high[i] = four_taps(from[i] + 2);
    const Bytes v = load_as<Bytes>(from[i] + 2);
    const Bytes last = __builtin_shufflevector(v, v, 2, 6, 11, 15, 2, 6, 11, 15, 2, 6, 11, 15, 2, 6, 11, 15);
    __builtin_memcpy(to + 8 * kOutputs + i, &last, 4);
  }
  transpose_quads(low, to, kOutputs);
  transpose_quads(high, to + 4 * kOutputs, kOutputs);
}

// Taps from the bytes that hold them: of even taps in the lower half of every first byte of two and
// the upper half of every second one, of odd ones in the others.
ALWAYS_INLINE B tap_of(const float* bytes, int tap) {
  const Pairs v = load_as<Pairs>(bytes), high = v >> 4;
  const Pairs half = tap % 2 == 0 ? (v & 0x000F) | (high & 0x0F00) : (high & 0x000F) | (v & 0x0F00);
  return ((B)half ^ 8) - 8;
}

typedef std::int64_t TwoLongs __attribute__((vector_size(16)));

// Four steps of filters of one tap: to[step * kOutputs + filter].
ALWAYS_INLINE void gather_steps(const std::uint8_t* const* from, float* to) {
  Quad steps[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Bytes v = (Bytes)TwoLongs{load_as<std::int64_t>(from[i])};  // by way of a register: 8 bytes, 8 zeros
    steps[i] = (Quad)__builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  }
  transpose_quads(steps, to, kOutputs);
}

constexpr int kRowAhead = 256;  // bytes

// All rows are read at once: too many for a CPU to see that each goes on.
ALWAYS_INLINE void advance(const std::uint8_t** rows, int bytes) {
  for (int i = 0; i < kOutputs; ++i) {
    rows[i] += bytes;
    __builtin_prefetch(rows[i] + kRowAhead);
  }
}

// Steps first to last - 1, whole fours of them, of a block of filters of one tap.
void expand_points(const std::uint8_t** rows, int first, int last, std::int8_t* to) {
  for (int step = first; step < last; step += 4) {
    float bytes[4 * kOutputs];
    for (int i = 0; i < kOutputs; i += 4) gather_steps(rows + i, bytes + i);
    advance(rows, 8);
    for (int i = 0; i < 4 * kOutputs; i += kWidth) {
      store_as(to + (step * kOutputs + i) * 4, tap_of(bytes + i, 0));
    }
  }
}

template <int kPositions>
ALWAYS_INLINE void put_positions(const B (&values)[kPositions], std::int8_t* to, std::ptrdiff_t position) {
#pragma GCC unroll 46
  for (int p = 0; p < kPositions; ++p) store_as(to + p * position, values[p]);
}

// Steps first to last - 1 of a block of filters, of nine taps and a multiple of four channels, or of
// one tap and a multiple of sixteen. For filters that do not exist stands a copy of the last one.
void expand_steps(const ConvPlan& plan, const ConvForm& form, const std::uint8_t* weights, int block,
                  int first, int last, std::int8_t* to) {
  const std::int64_t step_bytes = 2 * plan.geometry.kernel[0] * plan.geometry.kernel[1];
  const std::uint8_t* rows[kOutputs];
  for (int i = 0; i < kOutputs; ++i) {
    const std::int64_t wanted = std::int64_t{block} * kOutputs + i, most = plan.geometry.filters - 1;
    rows[i] = weights + ((wanted < most ? wanted : most) * plan.steps + first) * step_bytes;
  }
  if (step_bytes == 2) return expand_points(rows, first, last, to);
  const std::ptrdiff_t position = form.position_bytes;
  for (int step = first; step < last; ++step) {
    float bytes[9 * kOutputs];
    for (int i = 0; i < kOutputs; i += 4) gather_taps(rows + i, bytes + i);
    advance(rows, 18);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      std::int8_t* at = to + (std::ptrdiff_t{step} * kOutputs + v * kWidth) * 4;
      B g[9];
#pragma GCC unroll 9
      for (int t = 0; t < 9; ++t) g[t] = tap_of(bytes + t * kOutputs + v * kWidth, t);
      if (form.edge == 1) {
        put_positions(g, at, position);
      } else if (form.edge == 2) {
        B u[tile_positions(2)];
        transform_weights<2>(g, u);
        put_positions(u, at, position);
      } else {
        B u[tile_positions(4)];
        transform_weights<4>(g, u);
        put_positions(u, at, position);
      }
    }
  }
}
