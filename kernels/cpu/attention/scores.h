#pragma once

// Attention's scores of a segment's keys. L is Avx2Lanes or Avx512Lanes. Local to the file that
// includes it (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention/shape.h"

namespace shoal::cpu {
namespace {

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

}  // namespace
}  // namespace shoal::cpu
