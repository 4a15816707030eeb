// The grid of codes on x86. Included after the vector type by x86_codes.inc.h and sse4_codes.inc.h.

typedef short Words __attribute__((vector_size(sizeof(F))));

// The codes' constants; signed codes are shifted up by 128 until the end.
struct Grid {
  F high;
  Words zero_point, least;
  __m128i flip;
  bool stream;

  explicit Grid(const CodeGrid& g) {
    const int shift = g.is_signed ? 128 : 0;
    high = F{} + g.high;
    zero_point = Words{} + static_cast<short>(g.zero_point + shift);
    least = Words{} + static_cast<short>(g.low + g.zero_point + shift);
    flip = _mm_set1_epi8(static_cast<char>(shift));
    stream = g.stream;
  }
};

// Codes of steps that are not above the largest.
ALWAYS_INLINE Words codes_of(Words steps, const Grid& grid) {
  const Words codes = steps + grid.zero_point;
  return codes > grid.least ? codes : grid.least;
}
