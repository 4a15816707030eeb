// Codes of a rotation on x86. Included after the vector type by avx2.inc.h and avx512.inc.h.

typedef short Words __attribute__((vector_size(sizeof(F))));

// The codes' constants; signed codes are shifted up by 128 until the end.
struct Grid {
  F high;
  Words zero_point, least;
  __m256i flip;
  bool stream;

  explicit Grid(const CodeGrid& g) {
    const int shift = g.is_signed ? 128 : 0;
    high = F{} + g.high;
    zero_point = Words{} + static_cast<short>(g.zero_point + shift);
    least = Words{} + static_cast<short>(g.low + g.zero_point + shift);
    flip = _mm256_set1_epi8(static_cast<char>(shift));
    stream = g.stream;
  }
};

// Codes of steps that are not above the largest.
ALWAYS_INLINE Words codes_of(Words steps, const Grid& grid) {
  const Words codes = steps + grid.zero_point;
  return codes > grid.least ? codes : grid.least;
}

// Stores 32 codes.
ALWAYS_INLINE void put_codes(__m256i codes, std::uint8_t* to, const Grid& grid) {
  codes = _mm256_xor_si256(codes, grid.flip);
  if (grid.stream && reinterpret_cast<std::uintptr_t>(to) % sizeof codes == 0) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), codes);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), codes);
  }
}
