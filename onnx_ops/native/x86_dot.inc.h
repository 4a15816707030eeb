// Sums of products of bytes on x86. Included after Dotted, pairs_of_bytes (unsigned codes by signed weights)
// and pairs_of_words, which add two neighbouring products.

ALWAYS_INLINE Dotted four_weights(const std::int8_t* p) {
  return four_codes(reinterpret_cast<const std::uint8_t*>(p));
}

constexpr bool kSigned = false;
constexpr int kMostCode = 255;

#ifdef QUANTFACE_VNNI
constexpr int kShortRun = 0;

template <Sums>
struct Dot {
  Dotted sums;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) { add_dots(sums, codes, weights); }
  ALWAYS_INLINE Dotted total() const { return sums; }
};
#else
constexpr int kShortRun = 3;

typedef std::int16_t Words __attribute__((vector_size(sizeof(Dotted))));
typedef std::uint16_t PlusWords __attribute__((vector_size(sizeof(Dotted))));

ALWAYS_INLINE Dotted sum_pairs(Dotted words) { return pairs_of_words(words, (Dotted)(Words{} + 1)); }

template <Sums>
struct Dot;

template <>
struct Dot<Sums::kShort> {
  Dotted sums;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) {
    add_int16(sums, pairs_of_bytes(codes, weights));
  }
  ALWAYS_INLINE Dotted total() const { return sum_pairs(sums); }
};

template <>
struct Dot<Sums::kPairs> {
  Dotted sums;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) {
    add_int32(sums, sum_pairs(pairs_of_bytes(codes, weights)));
  }
  ALWAYS_INLINE Dotted total() const { return sums; }
};

template <>
struct Dot<Sums::kWide> {
  Dotted sums;
  ALWAYS_INLINE void add(Dotted codes, Dotted weights) {
    const Words w = (Words)weights;
    const Dotted even = pairs_of_words((Dotted)((Words)codes & 0xFF), (Dotted)(w << 8 >> 8));
    const Dotted odd = pairs_of_words((Dotted)((PlusWords)codes >> 8), (Dotted)(w >> 8));
    add_int32(sums, even);
    add_int32(sums, odd);
  }
  ALWAYS_INLINE Dotted total() const { return sums; }
};

#define QUANTFACE_WORDS

// Of words, two to a sum.
struct WordDot {
  Dotted sums;
  ALWAYS_INLINE void add(Dotted a, Dotted b) { add_int32(sums, pairs_of_words(a, b)); }
  ALWAYS_INLINE Dotted total() const { return sums; }
};
#endif
