#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/lanes/lanes_avx2.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/linear/tiles/run_tiles.h"

// Linear layers over f32, f16 and bf16 weights: one fma for each k, row and eight outputs, k
// ascending. Six rows and two registers of outputs: 12 accumulators, 2 of weights, 1 activation.

namespace shoal::cpu {
namespace {

constexpr int kRowsMax = 6;

// Outputs 8 * half .. 8 * half + 7 of one k.
template <DType kType>
SHOAL_INLINE __m256 LoadWeights(const uint8_t* from, int half) {
  if constexpr (kType == DType::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from) + 8 * half);
  } else {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + half);
    if constexpr (kType == DType::kF16) {
      return _mm256_cvtph_ps(halves);
    } else {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
    }
  }
}

template <DType kType, int kRows>
struct FloatKernel {
  using Lanes = Lanes256;
  static constexpr int64_t kPanels = 4;
  // Four chains at least: a multiply-addition takes four cycles.
  static constexpr int kTogether = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
  static constexpr int64_t kBytes = PackedGroupBytes(kType);
  static constexpr int64_t kPrefetchBytes = 64 * kBytes;

  static constexpr SHOAL_INLINE int64_t WeightBytes(int64_t k) { return k * kBytes; }
  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return AddFixed256(y, limit, sums);
  }

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t) {
    values = input.values + row * input.cols + k;
    stride = input.cols;
  }

  template <int kCount, typename Sink>
  SHOAL_INLINE void Block(const uint8_t* weights, int64_t panel_bytes, int64_t k_begin,
                          int64_t count, Sink sink) const {
    Lanes acc[kCount][kRows];
#pragma GCC unroll 4
    for (int p = 0; p < kCount; ++p) {
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) acc[p][r] = Lanes::Zero();
    }
    const float* row[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) row[r] = values + r * stride + k_begin;
    for (int64_t k = 0; k < count; ++k) {
#pragma GCC unroll 4
      for (int p = 0; p < kCount; ++p) {
        const uint8_t* from = weights + p * panel_bytes + k * kBytes;
        _mm_prefetch(reinterpret_cast<const char*>(from + kPrefetchBytes), _MM_HINT_T0);
        const __m256 w[2] = {LoadWeights<kType>(from, 0), LoadWeights<kType>(from, 1)};
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const __m256 x = _mm256_set1_ps(row[r][k]);
          Lanes& sum = acc[p][r];
          sum.half[0] = _mm256_fmadd_ps(w[0], x, sum.half[0]);
          sum.half[1] = _mm256_fmadd_ps(w[1], x, sum.half[1]);
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < kCount; ++p) {
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) sink(p, r, acc[p][r]);
    }
  }

  const float* values;
  int64_t stride;
};

template <DType kType>
struct FloatFormat {
  template <int kRows>
  using Kernel = FloatKernel<kType, kRows>;

  template <typename Call>
  static void Compute(const Call& call) {
    Run<Kernel, kRowsMax>(call);
  }
};

}  // namespace

constinit const LinearKernels kLinearFloatAvx2 =
    KernelsOf<FloatFormat, DType::kF32, DType::kF16, DType::kBF16>();

}  // namespace shoal::cpu
