#include "kernels/cpu/linear/kernels_of.h"
#include "kernels/cpu/linear/lanes/lanes_avx2.h"
#include "kernels/cpu/linear/linear.h"
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

constexpr int64_t kGroup = 32;
constexpr int64_t kBlockGroups = kBlockK / kGroup;
constexpr int kStripRows = 4;

// What is subtracted from every unsigned weight.
template <DType kType>
constexpr int32_t kOffset = kType == DType::kQ8_0   ? 128
                            : kType == DType::kQ4_0 ? 8
                                                    : 0;

SHOAL_INLINE __m256i LoadBytes(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

SHOAL_INLINE void StoreBytes(void* to, __m256i bytes) {
  _mm256_store_si256(static_cast<__m256i*>(to), bytes);
}

SHOAL_INLINE __m256 LoadHalves(const uint8_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// Rows of up to 256 k at constant distances, with what a (row, group) needs once.
template <DType kType, int kRowsMax>
struct RowBlock {
  static constexpr bool kWide = kType == DType::kQ8_0;
  // As bytes; or as 16-bit numbers, of each quad of k first the two even ones, then the two odd.
  static constexpr int64_t kQuadBytes = kWide ? 8 : 4;
  alignas(32) int8_t quants[kRowsMax][kBlockK / 4 * kQuadBytes];
  alignas(32) float scales[kRowsMax][kBlockGroups];
  // Q4_1: scale * float(sum). The others: -offset * sum as bits, where the dot product starts.
  alignas(32) float corrections[kRowsMax][kBlockGroups];

  SHOAL_INLINE void Load(const ActivationRows& input, int64_t row, int rows, int64_t k,
                         int64_t count) {
    const int64_t groups = count / kGroup;
    const __m256i present = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(groups)),
                                               _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    for (int r = 0; r < rows; ++r) {
      const int64_t first_group = (row + r) * (input.cols / kGroup) + k / kGroup;
      const int8_t* from = input.quants + (row + r) * input.cols + k;
      for (int64_t g = 0; g < groups; ++g) LoadGroup(from + g * kGroup, r, g);
      const __m256 scale = _mm256_maskload_ps(input.scales + first_group, present);
      const __m256i sum = _mm256_maskload_epi32(input.sums + first_group, present);
      _mm256_store_ps(scales[r], scale);
      if constexpr (kOffset<kType> == 0) {
        _mm256_store_ps(corrections[r], _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum)));
      } else {
        StoreBytes(corrections[r], _mm256_mullo_epi32(sum, _mm256_set1_epi32(-kOffset<kType>)));
      }
    }
  }

  SHOAL_INLINE void LoadGroup(const int8_t* from, int r, int64_t g) {
    __m256i x = LoadBytes(from);
    Settle(x);
    int8_t* to = quants[r] + g * (kGroup / 4 * kQuadBytes);
    if constexpr (kWide) {
      const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
      const __m256i odd = _mm256_srai_epi16(x, 8);
      const __m256i low = _mm256_unpacklo_epi32(even, odd);   // Quads 0, 1 and 4, 5.
      const __m256i high = _mm256_unpackhi_epi32(even, odd);  // Quads 2, 3 and 6, 7.
      StoreBytes(to, _mm256_permute2x128_si256(low, high, 0x20));
      StoreBytes(to + 32, _mm256_permute2x128_si256(low, high, 0x31));
    } else {
      StoreBytes(to, x);
    }
  }
};

// A block of one panel's weights as they are multiplied.
template <DType kType>
struct UnpackedBlock {
  static constexpr int64_t kQuadBytes = kType == DType::kQ8_0 ? 128 : 64;
  alignas(32) uint8_t quads[kBlockGroups][kGroup / 4][kQuadBytes];
  alignas(32) float factors[kBlockGroups][2][kPanelRows];  // Scales, then minimums.
};

enum class Source {
  kPacked,           // Unpacks, for one strip only.
  kPackedForOthers,  // Unpacks and stores, for the strips that follow.
  kUnpacked,
};

// Dot products of kRows rows of a q4 group with 16 outputs in two halves. Row r's quants are
// kBlockK bytes after those of row r - 1.
template <Source kSource, int kRows>
SHOAL_INLINE void DotNibbles(const uint8_t* packed, uint8_t (*unpacked)[64], const int8_t* quants,
                             __m256i (*dot)[2]) {
  const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 8
  for (int step = 0; step < 8; ++step) {
    const int quad = step % 2 * 4 + step / 2;  // The low and the high nibbles of a vector in turn.
    __m256i w[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      if constexpr (kSource == Source::kUnpacked) {
        w[h] = LoadBytes(unpacked[quad] + 32 * h);
      } else {
        const __m256i both = LoadBytes(packed + 64 * (quad % 4) + 32 * h);
        w[h] = _mm256_and_si256(quad < 4 ? both : _mm256_srli_epi16(both, 4), low);
        if constexpr (kSource == Source::kPackedForOthers)
          StoreBytes(unpacked[quad] + 32 * h, w[h]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i x = Broadcast32(quants + r * kBlockK + 4 * quad);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256i pairs = _mm256_maddubs_epi16(w[h], x);
        dot[r][h] = step == 0 ? pairs : _mm256_add_epi16(dot[r][h], pairs);
        Settle(dot[r][h]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) dot[r][h] = _mm256_madd_epi16(dot[r][h], _mm256_set1_epi16(1));
  }
}

// Likewise for a q8 group; rows are 2 * kBlockK bytes apart.
template <Source kSource, int kRows>
SHOAL_INLINE void DotBytes(const uint8_t* packed, uint8_t (*unpacked)[128], const int8_t* quants,
                           __m256i (*dot)[2]) {
#pragma GCC unroll 16
  for (int step = 0; step < 16; ++step) {
    const int quad = step / 2;
    const bool odd = step % 2 != 0;
    __m256i w[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      uint8_t* stored = unpacked[quad] + 64 * h + (odd ? 32 : 0);
      if constexpr (kSource == Source::kUnpacked) {
        w[h] = LoadBytes(stored);
      } else {
        const __m256i both = LoadBytes(packed + 64 * quad + 32 * h);
        w[h] = odd ? _mm256_srli_epi16(both, 8) : _mm256_and_si256(both, _mm256_set1_epi16(0xFF));
        if constexpr (kSource == Source::kPackedForOthers) StoreBytes(stored, w[h]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i x = Broadcast32(quants + r * (2 * kBlockK) + 4 * step);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256i products = _mm256_madd_epi16(w[h], x);
        dot[r][h] = step == 0 ? products : _mm256_add_epi32(dot[r][h], products);
        Settle(dot[r][h]);
      }
    }
  }
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
