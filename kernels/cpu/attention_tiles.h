#pragma once

// Attention over vectors of lanes: scores of a segment's keys, and the weighted sum of its values.
// Written once for every instruction set: L is Avx2Lanes or Avx512Lanes. Local to the file that
// includes it, like everything compiled with its flags (CMakeLists.txt says why).

#include "kernels/cpu/table.h"

namespace shoal::cpu {
namespace {

// Vectors of keys in a block.
template <typename L>
constexpr int kPerBlock = static_cast<int>(kKvBlockTokens / L::kWidth);

constexpr int kSegmentBlocks = static_cast<int>(kSegmentKeys / kKvBlockTokens);

template <KvDType kDType>
constexpr bool kHasScales = KvScaleBytes(kDType) > 0;

// What a pass over one dtype and head_dim needs everywhere.
struct AttentionShape {
  int64_t head_dim;
  int64_t value_offset;  // Bytes from a block's start to its values.
  int64_t row_bytes;     // Of one position's values.
  int64_t scale_offset;  // Bytes from a block's start to its keys' scales, if it has some.
  float scale;
  int64_t next_head_offset;  // AttentionCall has it.
};

// Brings the lines that lie `offset` behind those of kVectors vectors to the second cache.
template <typename L, KvDType kDType, int kVectors>
inline void PrefetchVectors(const std::byte* from, int64_t offset) {
  constexpr int64_t kBytes = kVectors * L::kWidth * ElementBytes(kDType);
#pragma GCC unroll 16
  for (int64_t line = 0; line < kBytes; line += 64) __builtin_prefetch(from + offset + line, 0, 2);
}

// acc[p][v] += *(factors + p * stride) * x[v]. Every second pair's factors are folded into the
// multiply-additions: enough where folding helps, and where a core does two of them and two loads a
// cycle, all of them would wait for loads. With more vectors one load serves enough of them.
template <typename L, int kPairs, int kVectors>
inline void AddProducts(const float* factors, int64_t stride, const typename L::F* x,
                        typename L::F (*acc)[kVectors]) {
#pragma GCC unroll 16
  for (int p = 0; p < kPairs; ++p) {
    const float* factor = factors + p * stride;
    if (kVectors <= 4 && p % 2 == 1) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) acc[p][v] = L::FmaFolded(factor, x[v], acc[p][v]);
    } else {
      const typename L::F f = L::Set(*factor);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) acc[p][v] = L::Fma(f, x[v], acc[p][v]);
    }
  }
}

// Scores of kPairs pairs against kVectors vectors of keys. keys[v]: vector v's keys of dimension 0;
// the next dimension's lie kKvBlockTokens elements on. scales[v]: theirs. query:
// [head_dim][kPairs]. scores: pair p's at p * kSegmentKeys. With each line of keys, the line in
// the same place among the block's values, which take the same room, is prefetched.
template <typename L, KvDType kDType, int kPairs, int kVectors>
void ScoreTile(const AttentionShape& shape, const std::byte* const* keys,
               const float* const* scales, const float* query, float* scores) {
  using F = typename L::F;
  constexpr int64_t kStride = kKvBlockTokens * ElementBytes(kDType);
  constexpr int kTogether = kVectors < kPerBlock<L> ? kVectors : kPerBlock<L>;  // Of one block.
  F acc[kPairs][kVectors];
#pragma GCC unroll 16
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) acc[p][v] = L::Zero();
  }
  for (int64_t i = 0; i < shape.head_dim; ++i) {
    F k[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; v += kTogether) {
      PrefetchVectors<L, kDType, kTogether>(keys[v] + i * kStride, shape.value_offset);
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      k[v] = L::template Widen<kDType>(keys[v] + i * kStride);
      if constexpr (kHasScales<kDType>) k[v] = L::Mul(k[v], L::Load(scales[v]));
    }
    AddProducts<L, kPairs, kVectors>(query + i * kPairs, 1, k, acc);
  }
  const F scale = L::Set(shape.scale);
#pragma GCC unroll 16
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      L::Store(scores + p * kSegmentKeys + v * L::kWidth, L::Mul(acc[p][v], scale));
    }
  }
}

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

// One segment's blocks, as far as any pair sees them.
struct SegmentBlocks {
  const std::byte* blocks[kSegmentBlocks];
  int count;
};

template <typename L, KvDType kDType, int kPairs>
void ScoreSegment(const AttentionShape& shape, const SegmentBlocks& segment, const float* query,
                  float* scores) {
  constexpr int kVectors = L::KeyVectors(kPairs);
  const int count = segment.count * kPerBlock<L>;
  const std::byte* keys[kSegmentBlocks * kPerBlock<L>];
  const float* scales[kSegmentBlocks * kPerBlock<L>];
  for (int v = 0; v < count; ++v) {
    const std::byte* block = segment.blocks[v / kPerBlock<L>];
    const int64_t lane = v % kPerBlock<L> * L::kWidth;
    keys[v] = block + lane * ElementBytes(kDType);
    scales[v] = reinterpret_cast<const float*>(block + shape.scale_offset) + lane;
  }
  int v = 0;
  for (; v + kVectors <= count; v += kVectors) {
    ScoreTile<L, kDType, kPairs, kVectors>(shape, keys + v, scales + v, query,
                                           scores + v * L::kWidth);
  }
  // A block is an even number of vectors.
  for (; v < count; v += 2) {
    ScoreTile<L, kDType, kPairs, 2>(shape, keys + v, scales + v, query, scores + v * L::kWidth);
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
