#include "kernels/cpu/linear_lanes_avx2.h"
#include "kernels/cpu/linear_variants.h"

// Linear layers over quantised weights without VNNI. Eight products of nibble pairs fit 16 bits
// (8 * 2 * 15 * 127 = 30480), so q4 multiplies bytes; q8 would not (2 * 255 * 127) and widens both
// sides to 16 bits, even and odd k apart so that a 32-bit lane stays one output.

namespace shoal::cpu {
namespace {

constexpr int64_t kGroup = 32;
constexpr int64_t kBlockGroups = kBlockK / kGroup;
constexpr int kRowsMax = 12;
constexpr int64_t kPrefetchBytes = 2560;

// What is subtracted from every unsigned weight.
template <DType kType>
constexpr int32_t kOffset = kType == DType::kQ8_0   ? 128
                            : kType == DType::kQ4_0 ? 8
                                                    : 0;

SHOAL_INLINE __m256i LoadBytes(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

SHOAL_INLINE __m256i Broadcast32(const void* from) {
  int32_t bits;
  __builtin_memcpy(&bits, from, 4);
  return _mm256_set1_epi32(bits);
}

SHOAL_INLINE __m256 LoadHalves(const uint8_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// Up to 256 k of the tile's rows at constant distances, with what a (row, group) needs once.
template <DType kType, int kRows>
struct RowBlock {
  static constexpr bool kWide = kType == DType::kQ8_0;
  alignas(32) int8_t quants[kRows][kWide ? 32 : kBlockK];
  alignas(32) int16_t even[kRows][kWide ? kBlockK / 2 : 16];
  alignas(32) int16_t odd[kRows][kWide ? kBlockK / 2 : 16];
  float scales[kRows][kBlockGroups];
  float minimums[kRows][kBlockGroups];  // Q4_1: scale * float(sum).
  int32_t starts[kRows][kBlockGroups];  // The others: -offset * sum, where the dot product starts.

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t first_group = (row + r) * (input.cols / kGroup) + k / kGroup;
      const int8_t* from = input.quants + (row + r) * input.cols + k;
      for (int64_t g = 0; g < count / kGroup; ++g) {
        const __m256i x = LoadBytes(from + g * kGroup);
        if constexpr (kWide) {
          _mm256_store_si256(reinterpret_cast<__m256i*>(even[r] + g * kGroup / 2),
                             _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
          _mm256_store_si256(reinterpret_cast<__m256i*>(odd[r] + g * kGroup / 2),
                             _mm256_srai_epi16(x, 8));
        } else {
          _mm256_store_si256(reinterpret_cast<__m256i*>(quants[r] + g * kGroup), x);
        }
        scales[r][g] = input.scales[first_group + g];
        const int32_t sum = input.sums[first_group + g];
        minimums[r][g] = scales[r][g] * static_cast<float>(sum);
        starts[r][g] = -kOffset<kType> * sum;
      }
    }
  }
};

template <DType kType, int kRows>
struct QuantKernel {
  using Lanes = Lanes256;
  static constexpr int64_t kPanels = 4;
  static constexpr int kTogether = 1;
  static constexpr int64_t kBytes = PackedGroupBytes(kType);

  static constexpr SHOAL_INLINE int64_t WeightBytes(int64_t k) { return k / kGroup * kBytes; }
  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return AddFixed256(y, limit, sums);
  }

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    rows.Load(input, row, k, count);
  }

  // Dot products of eight outputs, `half`, of a q4 group with every row.
  SHOAL_INLINE void DotNibbles(const uint8_t* group, int half, int64_t g, __m256i* dot) const {
    const __m256i low = _mm256_set1_epi8(15);
    __m256i w[8];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i both = LoadBytes(group + 64 * v + 32 * half);
      w[v] = _mm256_and_si256(both, low);
      w[v + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
// Unrolled, the compiler loads many rows at once and spills the weights.
#pragma GCC unroll 1
    for (int r = 0; r < kRows; ++r) {
      const int8_t* quants = rows.quants[r] + g * kGroup;
      __m256i pairs = _mm256_maddubs_epi16(w[0], Broadcast32(quants));
#pragma GCC unroll 8
      for (int v = 1; v < 8; ++v) {
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w[v], Broadcast32(quants + 4 * v)));
      }
      dot[r] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
      if constexpr (kType == DType::kQ4_0) {
        dot[r] = _mm256_add_epi32(dot[r], _mm256_set1_epi32(rows.starts[r][g]));
      }
    }
  }

  SHOAL_INLINE void DotBytes(const uint8_t* group, int half, int64_t g, __m256i* dot) const {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) dot[r] = _mm256_set1_epi32(rows.starts[r][g]);
// Unrolled, the compiler loads all weights first and spills them.
#pragma GCC unroll 1
    for (int v = 0; v < 8; ++v) {
      const __m256i w = LoadBytes(group + 64 * v + 32 * half);
      const __m256i w_even = _mm256_and_si256(w, _mm256_set1_epi16(0xFF));
      const __m256i w_odd = _mm256_srli_epi16(w, 8);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = g * kGroup / 2 + 2 * v;
        const __m256i products =
            _mm256_add_epi32(_mm256_madd_epi16(w_even, Broadcast32(rows.even[r] + at)),
                             _mm256_madd_epi16(w_odd, Broadcast32(rows.odd[r] + at)));
        dot[r] = _mm256_add_epi32(dot[r], products);
      }
    }
  }

  SHOAL_INLINE void AddHalfGroup(const uint8_t* group, int half, int64_t g, Lanes* acc) const {
    constexpr int64_t kFactors = kType == DType::kQ8_0 ? 512 : 256;
    __m256i dot[kRows];
    if constexpr (kType == DType::kQ8_0) {
      DotBytes(group, half, g, dot);
    } else {
      DotNibbles(group, half, g, dot);
    }
    const __m256 d = LoadHalves(group + kFactors + 16 * half);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      __m256& sum = acc[r].half[half];
      const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(rows.scales[r][g]), d);
      sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot[r]), sum);
      if constexpr (kType == DType::kQ4_1) {
        const __m256 m = LoadHalves(group + kFactors + 32 + 16 * half);
        sum = _mm256_fmadd_ps(m, _mm256_set1_ps(rows.minimums[r][g]), sum);
      }
    }
  }

  template <int, typename Sink>
  SHOAL_INLINE void Block(const uint8_t* weights, int64_t, int64_t k_begin, int64_t count,
                          Sink sink) const {
    Lanes acc[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) acc[r] = Lanes::Zero();
    const int64_t first = k_begin / kGroup;
    for (int64_t g = 0; g < count / kGroup; ++g) {
      const uint8_t* group = weights + g * kBytes;
#pragma GCC unroll 16
      for (int64_t line = 0; line < kBytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(group + kPrefetchBytes + line), _MM_HINT_T0);
      }
      AddHalfGroup(group, 0, first + g, acc);
      AddHalfGroup(group, 1, first + g, acc);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sink(0, r, acc[r]);
  }

  RowBlock<kType, kRows> rows;
};

template <int kRows>
using Q8_0Kernel = QuantKernel<DType::kQ8_0, kRows>;
template <int kRows>
using Q4_0Kernel = QuantKernel<DType::kQ4_0, kRows>;
template <int kRows>
using Q4_1Kernel = QuantKernel<DType::kQ4_1, kRows>;

}  // namespace

void LinearQ8_0Avx2(const LinearCall& call) { Run<Q8_0Kernel, kRowsMax>(call); }
void LinearQ4_0Avx2(const LinearCall& call) { Run<Q4_0Kernel, kRowsMax>(call); }
void LinearQ4_1Avx2(const LinearCall& call) { Run<Q4_1Kernel, kRowsMax>(call); }
void LeafLinearQ8_0Avx2(const LeafLinearCall& call) { Run<Q8_0Kernel, kRowsMax>(call); }
void LeafLinearQ4_0Avx2(const LeafLinearCall& call) { Run<Q4_0Kernel, kRowsMax>(call); }
void LeafLinearQ4_1Avx2(const LeafLinearCall& call) { Run<Q4_1Kernel, kRowsMax>(call); }

}  // namespace shoal::cpu
