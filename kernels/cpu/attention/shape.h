#pragma once

// The shape of a call, and products with its vectors of lanes. L is Avx2Lanes or Avx512Lanes. Local
// to the file that includes it (kernels/cpu/inline.h says why).

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention/attention.h"

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

// Brings the lines that lie `offset` bytes after those of kVectors vectors to L2.
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

// One segment's blocks, as far as any pair sees them.
struct SegmentBlocks {
  const std::byte* blocks[kSegmentBlocks];
  int count;
};

}  // namespace
}  // namespace shoal::cpu
