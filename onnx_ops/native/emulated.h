// The AVX-512, VNNI and AMX instructions that the kernels use, each as the loop that defines it, so that tests
// run those kernels on CPUs with AVX2 alone. avx512.inc.h and avx2.inc.h include it instead of in_place.h
// if QUANTFACE_EMULATE is on.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace quantface {
namespace {

template <class T, int kSize>
struct Lanes {
  static constexpr int kCount = kSize / static_cast<int>(sizeof(T));
  T at[kCount];
};

template <class T, class Vector>
Lanes<T, sizeof(Vector)> lanes(Vector v) {
  Lanes<T, sizeof(Vector)> found;
  std::memcpy(&found, &v, sizeof v);
  return found;
}

template <class Vector, class T, class Function>
Vector each(Function lane) {
  Lanes<T, sizeof(Vector)> result;
  for (int i = 0; i < result.kCount; ++i) result.at[i] = static_cast<T>(lane(i));
  Vector v;
  std::memcpy(&v, &result, sizeof v);
  return v;
}

template <class Vector, class Memory>
Vector loaded(const Memory* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline std::int16_t saturated(int v) { return static_cast<std::int16_t>(v < -32768 ? -32768 : v > 32767 ? 32767 : v); }

template <class T, class Vector>
Vector sum_of(Vector x, Vector y) {
  const auto a = lanes<T>(x), b = lanes<T>(y);
  return each<Vector, T>([&](int i) { return a.at[i] + b.at[i]; });
}

template <class Vector>
void add_int16(Vector& sums, Vector v) {
  sums = sum_of<std::int16_t>(sums, v);
}

template <class Vector>
void add_int32(Vector& sums, Vector v) {
  sums = sum_of<std::int32_t>(sums, v);
}

// Four products of unsigned codes by signed weights to each lane, without saturation.
template <class Vector>
void add_dots(Vector& sums, Vector codes, Vector weights) {
  const auto s = lanes<std::int32_t>(sums);
  const auto a = lanes<std::uint8_t>(codes);
  const auto b = lanes<std::int8_t>(weights);
  sums = each<Vector, std::int32_t>([&](int i) {
    int sum = s.at[i];
    for (int j = 4 * i; j < 4 * i + 4; ++j) sum += a.at[j] * b.at[j];
    return sum;
  });
}

inline __m512 min_floats(__m512 x, __m512 y) {
  const auto a = lanes<float>(x), b = lanes<float>(y);
  return each<__m512, float>([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
}

inline __m512 max_floats(__m512 x, __m512 y) {
  const auto a = lanes<float>(x), b = lanes<float>(y);
  return each<__m512, float>([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
}

inline __m512 first_floats(int mask, const float* from) {
  return each<__m512, float>([&](int i) { return mask >> i & 1 ? from[i] : 0.0f; });
}

inline void store_first(float* to, int mask, __m512 x) {
  const auto a = lanes<float>(x);
  for (int i = 0; i < a.kCount; ++i) {
    if (mask >> i & 1) to[i] = a.at[i];
  }
}

inline __m512 multiply_add(__m512 x, __m512 y, __m512 z) {
  const auto a = lanes<float>(x), b = lanes<float>(y), c = lanes<float>(z);
  return each<__m512, float>([&](int i) { return __builtin_fmaf(a.at[i], b.at[i], c.at[i]); });
}

inline __m512i round_floats(__m512 x) {
  const auto a = lanes<float>(x);
  return each<__m512i, std::int32_t>([&](int i) { return _mm_cvtss_si32(_mm_set_ss(a.at[i])); });
}

inline __m512 floats_of_halves(__m256i x) {
  const auto a = lanes<std::uint16_t>(x);
  return each<__m512, float>([&](int i) { return _cvtsh_ss(a.at[i]); });
}

inline __m256i halves_of_floats(__m512 x) {
  const auto a = lanes<float>(x);
  return each<__m256i, std::uint16_t>([&](int i) { return _cvtss_sh(a.at[i], 0); });
}

// Products of unsigned by signed bytes, summed in pairs, with saturation.
inline __m512i multiplied_bytes(__m512i x, __m512i y) {
  const auto a = lanes<std::uint8_t>(x);
  const auto b = lanes<std::int8_t>(y);
  return each<__m512i, std::int16_t>([&](int i) {
    return saturated(a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1]);
  });
}

inline __m512i multiplied_words(__m512i x, __m512i y) {
  const auto a = lanes<std::int16_t>(x), b = lanes<std::int16_t>(y);
  return each<__m512i, std::int32_t>([&](int i) {
    return a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1];
  });
}

// Two vectors in one of half as wide integers, within quarters of 16 bytes and with saturation.
inline __m512i packed_words(__m512i x, __m512i y) {
  const auto a = lanes<std::int32_t>(x), b = lanes<std::int32_t>(y);
  return each<__m512i, std::int16_t>([&](int i) {
    const int from = i / 8 * 4 + i % 4;
    return saturated(i % 8 < 4 ? a.at[from] : b.at[from]);
  });
}

inline __m512i packed_bytes(__m512i x, __m512i y) {
  const auto a = lanes<std::int16_t>(x), b = lanes<std::int16_t>(y);
  return each<__m512i, std::uint8_t>([&](int i) {
    const int v = (i % 16 < 8 ? a : b).at[i / 16 * 8 + i % 8];
    return v < 0 ? 0 : v > 255 ? 255 : v;
  });
}

// AMX's registers, of each thread.
struct TileRegisters {
  static constexpr int kCount = 8, kMostRows = 16, kRowBytes = 64;
  std::uint8_t config[64];
  std::uint8_t bytes[kCount][kMostRows][kRowBytes];

  int rows(int tile) const { return config[48 + tile]; }
  int row_bytes(int tile) const { return config[16 + 2 * tile] | config[17 + 2 * tile] << 8; }
};

inline thread_local TileRegisters tiles;

inline void load_tile_config(const void* from) {
  std::memset(&tiles, 0, sizeof tiles);
  if (from != nullptr) std::memcpy(tiles.config, from, sizeof tiles.config);
}

inline void store_tile_config(void* to) { std::memcpy(to, tiles.config, sizeof tiles.config); }

inline void load_tile(int tile, const void* from, std::ptrdiff_t row) {
  std::memset(tiles.bytes[tile], 0, sizeof tiles.bytes[tile]);
  for (int r = 0; r < tiles.rows(tile); ++r) {
    std::memcpy(tiles.bytes[tile][r], static_cast<const char*>(from) + r * row, tiles.row_bytes(tile));
  }
}

inline void store_tile(int tile, void* to, std::ptrdiff_t row) {
  for (int r = 0; r < tiles.rows(tile); ++r) {
    std::memcpy(static_cast<char*>(to) + r * row, tiles.bytes[tile][r], tiles.row_bytes(tile));
  }
}

// sums[r][f] += a[r][c] * b[c / 4][f][c % 4]
template <class A, class B>
void add_tile_dots(int sums, int a, int b) {
  for (int r = 0; r < tiles.rows(sums); ++r) {
    for (int f = 0; f < tiles.row_bytes(sums) / 4; ++f) {
      std::int32_t sum;
      std::memcpy(&sum, tiles.bytes[sums][r] + 4 * f, sizeof sum);
      for (int c = 0; c < tiles.row_bytes(a); ++c) {
        sum += static_cast<A>(tiles.bytes[a][r][c]) * static_cast<B>(tiles.bytes[b][c / 4][4 * f + c % 4]);
      }
      std::memcpy(tiles.bytes[sums][r] + 4 * f, &sum, sizeof sum);
    }
  }
}

}  // namespace
}  // namespace quantface

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbusd
#undef _tile_dpbsud
#define _tile_loadconfig quantface::load_tile_config
#define _tile_storeconfig quantface::store_tile_config
#define _tile_release() quantface::load_tile_config(nullptr)
#define _tile_loadd(tile, from, row) quantface::load_tile(tile, from, row)
#define _tile_stored(tile, to, row) quantface::store_tile(tile, to, row)
#define _tile_zero(tile) std::memset(quantface::tiles.bytes[tile], 0, sizeof quantface::tiles.bytes[tile])
#define _tile_dpbusd quantface::add_tile_dots<std::uint8_t, std::int8_t>
#define _tile_dpbsud quantface::add_tile_dots<std::int8_t, std::uint8_t>
#define _mm512_maddubs_epi16 quantface::multiplied_bytes
#define _mm512_madd_epi16 quantface::multiplied_words
#define _mm512_set1_ps(v) quantface::each<__m512, float>([&](int) { return v; })
#define _mm512_set1_epi32(v) quantface::each<__m512i, std::int32_t>([&](int) { return v; })
#define _mm512_loadu_ps(p) quantface::loaded<__m512>(p)
#define _mm512_loadu_si512(p) quantface::loaded<__m512i>(p)
#define _mm512_storeu_ps(p, v) (void)([&](__m512 x) { std::memcpy(p, &x, sizeof x); }(v))
#define _mm512_maskz_loadu_ps quantface::first_floats
#define _mm512_mask_storeu_ps quantface::store_first
#define _mm512_stream_ps(p, v) _mm512_storeu_ps(p, v)
#define _mm512_min_ps quantface::min_floats
#define _mm512_max_ps quantface::max_floats
#define _mm512_fmadd_ps quantface::multiply_add
#define _mm512_cvtps_epi32 quantface::round_floats
#define _mm512_packs_epi32 quantface::packed_words
#define _mm512_packus_epi16 quantface::packed_bytes
#define _mm512_cvtph_ps quantface::floats_of_halves
#define _mm512_cvtps_ph(v, rounding) quantface::halves_of_floats(v)
