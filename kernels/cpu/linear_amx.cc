#include "kernels/cpu/linear_amx_tiles.h"
#include "kernels/cpu/linear_lanes_avx512.h"
#include "kernels/cpu/linear_variants.h"

// The tile kernels on AMX. Calls with few rows go to the avx512vnni row's functions, which a
// machine with AMX always has; DescribeKernelTables says so.

namespace shoal::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  // Tile 0: activations. 1: weights. 2: sums.
  uint16_t row_bytes[16] = {32, 64, 64};
  uint8_t rows[16] = {16, 8, 16};
};
static_assert(sizeof(TileConfig) == 64);

// While it lives, this thread's tiles have the kernels' shapes.
class TileSession {
 public:
  SHOAL_INLINE TileSession() {
    const TileConfig config;
    // An operand that names the whole struct: GCC 12's own intrinsic takes its address alone, and
    // the stores to it may be dropped.
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
  }
  SHOAL_INLINE ~TileSession() { __asm__ volatile("tilerelease" : : : "memory"); }
  TileSession(const TileSession&) = delete;
  TileSession& operator=(const TileSession&) = delete;
};

// Assembly with a memory clobber: GCC 12's load intrinsics do not say that they read memory.
struct AmxTiles {
  static SHOAL_INLINE void Multiply(const int8_t* rows, int64_t stride, const int8_t* weights,
                                    int32_t* dots) {
    __asm__ volatile(
        "tileloadd (%[weights],%[line],1), %%tmm1\n\t"
        "tileloadd (%[rows],%[stride],1), %%tmm0\n\t"
        "tilezero %%tmm2\n\t"
        "tdpbssd %%tmm1, %%tmm0, %%tmm2\n\t"
        "tilestored %%tmm2, (%[dots],%[line],1)"
        :
        : [rows] "r"(rows), [stride] "r"(stride), [weights] "r"(weights), [line] "r"(int64_t{64}),
          [dots] "r"(dots)
        : "memory");
  }
};

struct AmxLanes : Lanes512 {
  static SHOAL_INLINE AmxLanes Of(__m512 v) { return {Lanes512{v}}; }
  static SHOAL_INLINE AmxLanes Zero() { return Of(_mm512_setzero_ps()); }
  static SHOAL_INLINE AmxLanes LoadLanes(const float* from) { return Of(_mm512_load_ps(from)); }
  static SHOAL_INLINE AmxLanes Broadcast(float x) { return Of(_mm512_set1_ps(x)); }
  static SHOAL_INLINE AmxLanes FromHalves(const uint8_t* from) {
    return Of(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  }
  static SHOAL_INLINE AmxLanes FromDots(const int32_t* dots) {
    return Of(_mm512_cvtepi32_ps(_mm512_load_si512(dots)));
  }
  static SHOAL_INLINE AmxLanes Scaled(AmxLanes a, float x) {
    return Of(_mm512_mul_ps(a.v, _mm512_set1_ps(x)));
  }
  static SHOAL_INLINE AmxLanes PlusProduct(AmxLanes a, AmxLanes b, AmxLanes sum) {
    return Of(_mm512_fmadd_ps(a.v, b.v, sum.v));
  }
  static SHOAL_INLINE uint32_t AddFixed(AmxLanes y, float limit, int64_t* sums) {
    return AddFixed512(y, limit, sums);
  }
  static SHOAL_INLINE void UnpackNibbles(const uint8_t* from, int8_t offset, int8_t* to) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i offsets = _mm512_set1_epi8(offset);
#pragma GCC unroll 4
    for (int i = 0; i < 256; i += 64) {
      const __m512i both = _mm512_loadu_si512(from + i);
      __m512i first = _mm512_and_si512(both, low);
      __m512i second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      _mm512_store_si512(to + i, _mm512_sub_epi8(first, offsets));
      _mm512_store_si512(to + 256 + i, _mm512_sub_epi8(second, offsets));
    }
  }
  static SHOAL_INLINE void UnpackBytes(const uint8_t* from, uint8_t offset, int8_t* to) {
    const __m512i offsets = _mm512_set1_epi8(static_cast<char>(offset));
#pragma GCC unroll 8
    for (int i = 0; i < 512; i += 64) {
      _mm512_store_si512(to + i, _mm512_sub_epi8(_mm512_loadu_si512(from + i), offsets));
    }
  }
  static SHOAL_INLINE void CopyFactors(const float* scales, const int32_t* sums, int64_t groups,
                                       float* to, float* minimums) {
    const auto mask = static_cast<__mmask8>((1u << groups) - 1);
    const __m256 scale = _mm256_maskz_loadu_ps(mask, scales);
    _mm256_store_ps(to, scale);
    if (minimums == nullptr) return;
    const __m256 sum = _mm256_cvtepi32_ps(_mm256_maskz_loadu_epi32(mask, sums));
    _mm256_store_ps(minimums, _mm256_mul_ps(scale, sum));
  }
  SHOAL_INLINE AmxLanes operator+(AmxLanes other) const { return Of(_mm512_add_ps(v, other.v)); }
};

template <DType kType, typename Call>
SHOAL_INLINE void RunTiles(const Call& call, void (*few_rows)(const Call&)) {
  if (call.row_end - call.row_begin < kTileRowsMin) return few_rows(call);
  const TileSession session;
  RunAnyRows<TileKernel<kType, AmxTiles, AmxLanes>>(call);
}

}  // namespace

void LinearQ8_0Amx(const LinearCall& call) { RunTiles<DType::kQ8_0>(call, LinearQ8_0Avx512); }
void LinearQ4_0Amx(const LinearCall& call) { RunTiles<DType::kQ4_0>(call, LinearQ4_0Avx512); }
void LinearQ4_1Amx(const LinearCall& call) { RunTiles<DType::kQ4_1>(call, LinearQ4_1Avx512); }
void LeafLinearQ8_0Amx(const LeafLinearCall& call) {
  RunTiles<DType::kQ8_0>(call, LeafLinearQ8_0Avx512);
}
void LeafLinearQ4_0Amx(const LeafLinearCall& call) {
  RunTiles<DType::kQ4_0>(call, LeafLinearQ4_0Avx512);
}
void LeafLinearQ4_1Amx(const LeafLinearCall& call) {
  RunTiles<DType::kQ4_1>(call, LeafLinearQ4_1Avx512);
}

}  // namespace shoal::cpu
