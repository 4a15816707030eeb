// Codes of a rotation on x86. Included after the vector type by avx2.inc.h and avx512.inc.h.

#include "x86_grid.inc.h"

// Stores 32 codes.
ALWAYS_INLINE void put_codes(__m256i codes, std::uint8_t* to, const Grid& grid) {
  codes = _mm256_xor_si256(codes, _mm256_broadcastsi128_si256(grid.flip));
  if (grid.stream && reinterpret_cast<std::uintptr_t>(to) % sizeof codes == 0) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), codes);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), codes);
  }
}
