// What does not depend on the instruction set: plan, gains, tiles and the choice of kernels.
#include "rotation.h"

#include <atomic>
#include <cmath>

#include "kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace quantface {

bool make_plan(std::int64_t seed, std::int64_t log2, bool transposed, Plan* plan) {
  if (seed != 1 && seed != 12 && seed != 20 && seed != 60) return false;
  if (log2 < 0 || log2 > 16 || (seed << log2) > kMaxOrder) return false;
  *plan = Plan{};
  plan->n = static_cast<int>(seed << log2);
  plan->seed = static_cast<int>(seed);
  plan->transposed = transposed;
  int left = static_cast<int>(log2);
  if (seed > 1 || left == 0) plan->radix[plan->passes++] = plan->seed;
  // Rows far apart share a set of the first-level cache, which has 8 ways; then 16 and less.
  if (left > 4 && seed == 1) {
    plan->radix[plan->passes++] = 8;
    left -= 3;
  }
  for (int rest = (left + 3) / 4; left > 0; --rest) {
    const int bits = left / rest;
    plan->radix[plan->passes++] = 1 << bits;
    left -= bits;
  }
  return true;
}

// H_m^T = P D H_m D P, with D = diag(-1, 1, ..., 1) and P = P^T the map i -> -i of the integers
// mod q. The kernels permute; D goes into the gains of the first n / m channels on both sides.
void set_gains(const float* d, double scale, float* gains, Rotation* rotation) {
  const Plan& plan = rotation->plan;
  const double whole = 1.0 / (std::sqrt(static_cast<double>(plan.n)) * scale);
  float* out = gains + plan.n;
  for (int c = 0; c < plan.n; ++c) {
    if (plan.transposed) {
      const bool negative = plan.seed > 1 && c < plan.n / plan.seed;
      gains[c] = static_cast<float>(negative ? -whole : whole);
      out[c] = negative ? -d[c] : d[c];
    } else {
      gains[c] = static_cast<float>(d[c] * whole);
    }
  }
  rotation->gain_in = gains;
  rotation->gain_out = plan.transposed ? out : nullptr;
}

// Wide tiles read and write longer runs of memory. Narrower ones when the scratch would leave the
// second-level cache, of the widest when it would take half of it, and when there would be too few of them
// to share among threads.
void set_tile(Rotation* rotation) {
  Rotation& r = *rotation;
  const auto fits = [&] {
    const std::int64_t most = r.tile == kMaxTile ? 1 << 17 : 1 << 18;
    return r.plan.n * std::int64_t{r.tile} <= most && tile_count(r) >= 16;
  };
  r.tile = kMaxTile;
  while (r.tile > 32 && !fits()) r.tile /= 2;
  r.grid.stream = r.images * r.pixels * r.plan.n >= kStreamedBytes;
}

std::int64_t tile_count(const Rotation& r) {
  return r.images * ((r.pixels + r.tile - 1) / r.tile);
}

std::size_t scratch_bytes(const Rotation& r) { return scratch_layout(r).bytes; }

#if defined(__aarch64__)
static bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & 1UL << 20) != 0;  // HWCAP_ASIMDDP
#else
  return false;
#endif
}
#endif

#if defined(__x86_64__) || defined(__i386__)
#ifdef QUANTFACE_EMULATE
#define HAS(feature) true
[[maybe_unused]] static bool has_avx_vnni() { return true; }
[[maybe_unused]] static bool has_amx() { return true; }
#else
#define HAS(feature) __builtin_cpu_supports(feature)

// What not all compilers have names for.
struct Features {
  unsigned a = 0, b = 0, c = 0, d = 0;

  explicit Features(unsigned page) { __get_cpuid_count(7, page, &a, &b, &c, &d); }
};

static bool ask_avx_vnni() { return (Features(1).a & 1u << 4) != 0; }

// Linux gives a process its tiles on demand: its threads then have 8 KB more to save.
static bool ask_amx() {
#ifdef __linux__
  constexpr unsigned kTilesOfBytes = 3u << 24;    // AMX-TILE and AMX-INT8
  constexpr long kRequest = 0x1023, kTiles = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return (Features(0).d & kTilesOfBytes) == kTilesOfBytes && syscall(SYS_arch_prctl, kRequest, kTiles) == 0;
#else
  return false;
#endif
}

// Asked once: a hypervisor answers in 10 us, and every kernel of a session wants to know.
template <bool (*kAsk)()>
static bool answer() {
  enum { kUnknown, kNo, kYes };
  static std::atomic<int> known{kUnknown};
  if (known.load(std::memory_order_relaxed) == kUnknown) known.store(kAsk() ? kYes : kNo, std::memory_order_relaxed);
  return known.load(std::memory_order_relaxed) == kYes;
}

[[maybe_unused]] static bool has_avx_vnni() { return answer<ask_avx_vnni>(); }
[[maybe_unused]] static bool has_amx() { return answer<ask_amx>(); }
#endif
#endif

const Kernels* supported_kernels(int index) {
  const Kernels* found[7] = {};
  int count = 0;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (HAS("avx512f") && HAS("avx512bw") && HAS("avx512vl") && HAS("avx512dq")) {
#ifdef QUANTFACE_KNOWS_AMX
    if (HAS("avx512vnni") && has_amx()) found[count++] = amx_kernels();
#endif
    if (HAS("avx512vnni")) found[count++] = avx512_vnni_kernels();
    found[count++] = avx512_kernels();
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
#ifdef QUANTFACE_AVX_VNNI
    if (has_avx_vnni()) found[count++] = avx2_vnni_kernels();
#endif
    found[count++] = avx2_kernels();
  }
  if (__builtin_cpu_supports("sse4.1")) found[count++] = sse4_kernels();
#elif defined(__aarch64__)
  if (has_dot_product()) found[count++] = neon_dot_kernels();
  found[count++] = neon_kernels();
#endif
  found[count++] = generic_kernels();
  return index >= 0 && index < count ? found[index] : nullptr;
}

}  // namespace quantface
