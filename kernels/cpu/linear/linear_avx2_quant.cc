#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/lanes/lanes_avx2.h"
#include "kernels/cpu/linear/linear.h"
#include "kernels/cpu/linear/quant/quant_dots_avx2.h"
#include "kernels/cpu/linear/quant/quant_offset.h"
#include "kernels/cpu/linear/quant/quant_operands_avx2.h"
#include "kernels/cpu/linear/tiles/kept_rows.h"
#include "kernels/cpu/linear/tiles/run_tiles.h"

// Linear layers over quantised weights without VNNI. Eight products of nibble pairs fit 16 bits
// (8 * 2 * 15 * 127 = 30480), so q4 multiplies bytes; q8 would not (2 * 255 * 127) and widens both
// sides to 16 bits, even and odd k apart so that a 32-bit lane stays one output.
//
// What bounds a strip of four rows is the number of vector operations that are not loads: for q4,
// a group and eight outputs, 16 of the integer dot and 4 or 5 of its conversion and scaling. So all
// 16 outputs share a broadcast activation, which leaves room for loads, and weights are unpacked
// once: the first strip of a tile unpacks, multiplies and stores them, the others load them. The
// float accumulators, which would not fit beside the integer ones, stay in memory.

namespace shoal::cpu {
namespace {

constexpr int kStripRows = 4;

SHOAL_INLINE __m256 LoadHalves(const uint8_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

template <DType kType>
struct QuantKernel {
  using Lanes = Lanes256;
  static constexpr int64_t kPanels = 4;
  static constexpr int kTogether = 1;
  // What a block of a tile touches, 12 to 20 KiB, stays in L1.
  static constexpr int kRowsMax = 16;
  static constexpr int64_t kBytes = PackedGroupBytes(kType);
  static constexpr int64_t kFactors = kType == DType::kQ8_0 ? 512 : 256;

  static constexpr SHOAL_INLINE int64_t WeightBytes(int64_t k) { return k / kGroup * kBytes; }
  static SHOAL_INLINE uint32_t AddFixed(Lanes y, float limit, int64_t* sums) {
    return AddFixed256(y, limit, sums);
  }

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int64_t k, int64_t count) {
    rows.Load(input, row, row_count, k, count);
  }

  // acc[r][half] += group g of the block, times the rows from `first` on.
  template <Source kSource, int kRows>
  SHOAL_INLINE void AddGroup(const uint8_t* packed, int first, int64_t g, Lanes* acc) {
    __m256i dot[kRows][2];
    const int8_t* quants = rows.block->quants[first] + g * (kGroup / 4 * rows.block->kQuadBytes);
    if constexpr (kType == DType::kQ8_0) {
      DotBytes<kSource, kRows>(packed, unpacked.quads[g], quants, dot);
    } else {
      DotNibbles<kSource, kRows>(packed, unpacked.quads[g], quants, dot);
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m256 d;
      __m256 m;
      float(*factors)[kPanelRows] = unpacked.factors[g];
      if constexpr (kSource == Source::kUnpacked) {
        d = _mm256_load_ps(factors[0] + 8 * h);
        if constexpr (kType == DType::kQ4_1) m = _mm256_load_ps(factors[1] + 8 * h);
      } else {
        d = LoadHalves(packed + kFactors + 16 * h);
        if constexpr (kType == DType::kQ4_1) m = LoadHalves(packed + kFactors + 32 + 16 * h);
      }
      if constexpr (kSource == Source::kPackedForOthers) {
        _mm256_store_ps(factors[0] + 8 * h, d);
        if constexpr (kType == DType::kQ4_1) _mm256_store_ps(factors[1] + 8 * h, m);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const float* correction = &rows.block->corrections[first + r][g];
        const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(rows.block->scales[first + r][g]), d);
        __m256& sum = acc[r].half[h];
        if constexpr (kType == DType::kQ4_1) {
          sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot[r][h]), sum);
          sum = _mm256_fmadd_ps(m, _mm256_set1_ps(*correction), sum);
        } else {
          const __m256i whole = _mm256_add_epi32(dot[r][h], Broadcast32(correction));
          sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(whole), sum);
        }
      }
    }
  }

  // Calls sink for kRows rows from `first` on, for every `leaf` of the groups. Not inlined: the
  // accumulators are in memory anyway.
  template <Source kSource, int kRows, typename Sink>
  __attribute__((noinline, noclone)) void Strip(const uint8_t* packed, int first, int64_t group,
                                                int64_t group_end, int64_t leaf, Sink sink) {
    while (group < group_end) {
      Lanes acc[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) acc[r] = Lanes::Zero();
      const int64_t leaf_end = Smaller(group + leaf, group_end);
      for (; group < leaf_end; ++group, packed += kBytes) {
        if constexpr (kSource != Source::kUnpacked) Prefetch<kBytes>(packed, ahead);
        AddGroup<kSource, kRows>(packed, first, group, acc);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sink(0, first + r, acc[r]);
    }
  }

  template <Source kSource, int kRows = kStripRows, typename Sink>
  SHOAL_INLINE void StripOf(int rows, const uint8_t* packed, int first, int64_t group,
                            int64_t group_end, int64_t leaf, Sink sink) {
    if constexpr (kRows > 1) {
      if (rows < kRows) {
        return StripOf<kSource, kRows - 1>(rows, packed, first, group, group_end, leaf, sink);
      }
    }
    Strip<kSource, kRows>(packed, first, group, group_end, leaf, sink);
  }

  template <typename Sink>
  SHOAL_INLINE void Leaves(const uint8_t* weights, int64_t k_begin, int64_t count,
                           int64_t leaf_cols, Sink sink) {
    const int64_t group = k_begin / kGroup;
    const int64_t end = group + count / kGroup;
    const int64_t leaf = leaf_cols / kGroup;
    if (row_count <= kStripRows) {
      return StripOf<Source::kPacked>(row_count, weights, 0, group, end, leaf, sink);
    }
    Strip<Source::kPackedForOthers, kStripRows>(weights, 0, group, end, leaf, sink);
    for (int first = kStripRows; first < row_count; first += kStripRows) {
      StripOf<Source::kUnpacked>(row_count - first, weights, first, group, end, leaf, sink);
    }
  }

  template <int, typename Sink>
  SHOAL_INLINE void Block(const uint8_t* weights, int64_t, int64_t k_begin, int64_t count,
                          Sink sink) {
    Leaves(weights, k_begin, count, count, sink);
  }

  KeptRows<RowBlock<kType, kRowsMax>> rows;
  UnpackedBlock<kType> unpacked;
  Ahead ahead;
  int row_count;
};

template <DType kType>
struct QuantFormat {
  template <typename Call>
  static void Compute(const Call& call) {
    RunAnyRows<QuantKernel<kType>>(call);
  }
};

}  // namespace

constinit const LinearKernels kLinearQuantAvx2 =
    KernelsOf<QuantFormat, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1>();

}  // namespace shoal::cpu
