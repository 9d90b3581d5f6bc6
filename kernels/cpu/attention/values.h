#pragma once

// Attention's weighted sums of a segment's values. L is Avx2Lanes or Avx512Lanes. Local to the file
// that includes it (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention/shape.h"

namespace shoal::cpu {
namespace {

// Adds the values of keys [begin, end) of a segment, times their weights, to dimensions
// [0, kVectors * kWidth) of kPairs outputs, which the segment's first key overwrites. values[b]:
// those dimensions of block b's first position; scales[b]: its positions' scales. Pair p's weights
// are at p * kSegmentKeys, its output at p * head_dim. kPart: only the first `part` lanes of the
// one vector.
template <typename L, KvDType kDType, int kPairs, int kVectors, bool kPart>
void ValueTile(const AttentionShape& shape, const std::byte* const* values,
               const float* const* scales, int64_t begin, int64_t end, const float* weights,
               float* output, int64_t part) {
  using F = typename L::F;
  static_assert(!kPart || kVectors == 1);
  constexpr int64_t kVectorBytes = L::kWidth * ElementBytes(kDType);
  F acc[kPairs][kVectors];
#pragma GCC unroll 16
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      const float* from = output + p * shape.head_dim + v * L::kWidth;
      acc[p][v] = begin == 0 ? L::Zero() : kPart ? L::LoadFirst(from, part) : L::Load(from);
    }
  }
  while (begin < end) {
    const int64_t block = begin / kKvBlockTokens;
    const int64_t block_end =
        end < (block + 1) * kKvBlockTokens ? end : (block + 1) * kKvBlockTokens;
    const std::byte* value = values[block] + begin % kKvBlockTokens * shape.row_bytes;
    for (; begin < block_end; ++begin, value += shape.row_bytes) {
      PrefetchVectors<L, kDType, kVectors>(value, shape.next_head_offset - shape.value_offset);
      F x[kVectors];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        x[v] = kPart ? L::template WidenFirst<kDType>(value, part)
                     : L::template Widen<kDType>(value + v * kVectorBytes);
        if constexpr (kHasScales<kDType>) {
          x[v] = L::Mul(x[v], L::Set(scales[block][begin % kKvBlockTokens]));
        }
      }
      AddProducts<L, kPairs, kVectors>(weights + begin, kSegmentKeys, x, acc);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      float* to = output + p * shape.head_dim + v * L::kWidth;
      if (kPart) {
        L::StoreFirst(to, acc[p][v], part);
      } else {
        L::Store(to, acc[p][v]);
      }
    }
  }
}

template <typename L, KvDType kDType, int kPairs>
void AddValues(const AttentionShape& shape, const SegmentBlocks& segment, int64_t begin,
               int64_t end, const float* weights, float* output) {
  if (begin >= end) return;
  constexpr int kVectors = L::DimVectors(kPairs);
  const std::byte* values[kSegmentBlocks];
  const float* scales[kSegmentBlocks];
  for (int b = 0; b < segment.count; ++b) {
    scales[b] =
        reinterpret_cast<const float*>(segment.blocks[b] + shape.scale_offset) + kKvBlockTokens;
  }
  int64_t d = 0;
  const auto at = [&](int64_t dimension) {
    for (int b = 0; b < segment.count; ++b) {
      values[b] = segment.blocks[b] + shape.value_offset + dimension * ElementBytes(kDType);
    }
  };
  for (; d + kVectors * L::kWidth <= shape.head_dim; d += kVectors * L::kWidth) {
    at(d);
    ValueTile<L, kDType, kPairs, kVectors, false>(shape, values, scales, begin, end, weights,
                                                  output + d, 0);
  }
  for (; d + L::kWidth <= shape.head_dim; d += L::kWidth) {
    at(d);
    ValueTile<L, kDType, kPairs, 1, false>(shape, values, scales, begin, end, weights, output + d,
                                           0);
  }
  if (d < shape.head_dim) {
    at(d);
    ValueTile<L, kDType, kPairs, 1, true>(shape, values, scales, begin, end, weights, output + d,
                                          shape.head_dim - d);
  }
}

}  // namespace
}  // namespace shoal::cpu
