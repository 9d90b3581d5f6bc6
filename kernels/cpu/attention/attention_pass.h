#pragma once

// Attention over vectors of lanes, written once for every instruction set: L is Avx2Lanes or
// Avx512Lanes. Local to the file that includes it (kernels/cpu/inline.h says why).
//
// Up to L::kPairsMax (query row, query head) pairs go through the keys together, so that a key or
// value is loaded and widened once for all of them. Which pairs share a pass changes no bit: every
// sum belongs to one pair, and visits its keys in ascending order.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/scores.h"
#include "kernels/cpu/attention/shape.h"
#include "kernels/cpu/attention/softmax.h"
#include "kernels/cpu/attention/values.h"

namespace shoal::cpu {
namespace {

// Calls `function` with an integral constant equal to `pairs`, which is in [1, kMax].
template <int kMax, typename Function>
void WithPairs(int pairs, Function function) {
  if constexpr (kMax > 1) {
    if (pairs < kMax) return WithPairs<kMax - 1>(pairs, function);
  }
  function(std::integral_constant<int, kMax>());
}

// packed[i * pairs + p] = queries[p][i], mostly four by four.
inline void PackQueries(const float* const* queries, int pairs, int64_t head_dim, float* packed) {
  const int64_t pair_blocks = pairs / 4 * 4;
  const int64_t dim_blocks = head_dim / 4 * 4;
  for (int64_t p = 0; p < pair_blocks; p += 4) {
    for (int64_t i = 0; i < dim_blocks; i += 4) {
      __m128 rows[4];
      for (int r = 0; r < 4; ++r) rows[r] = _mm_loadu_ps(queries[p + r] + i);
      _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
      for (int r = 0; r < 4; ++r) _mm_storeu_ps(packed + (i + r) * pairs + p, rows[r]);
    }
  }
  for (int64_t p = 0; p < pairs; ++p) {
    for (int64_t i = p < pair_blocks ? dim_blocks : 0; i < head_dim; ++i) {
      packed[i * pairs + p] = queries[p][i];
    }
  }
}

// One pass: the pairs [first, first + kPairs) of a call, counted row by row.
template <typename L, KvDType kDType>
class AttentionPass {
 public:
  AttentionPass(const AttentionCall& call, const AttentionShape& shape, int64_t first, int pairs)
      : call_(call), shape_(shape), pairs_(pairs) {
    query_ = call.scratch;
    scores_ = query_ + L::kPairsMax * shape.head_dim;
    segment_.output = scores_ + L::kPairsMax * kSegmentKeys;
    span_.output = segment_.output + L::kPairsMax * shape.head_dim;
    total_.output = span_.output + L::kPairsMax * shape.head_dim;
    const float* queries[L::kPairsMax];
    for (int p = 0; p < pairs; ++p) {
      const int64_t row = (first + p) / call.head_count;
      const int64_t head = (first + p) % call.head_count;
      queries[p] = call.query + row * call.query_stride + head * shape.head_dim;
      output_[p] = call.output + row * call.output_stride + head * shape.head_dim;
      key_count_[p] = call.position_begin + row + 1;
      // Another core, which read them last, may hold these lines.
      for (int64_t i = 0; i < shape.head_dim; i += kLineFloats) {
        __builtin_prefetch(output_[p] + i, /*rw=*/1);
      }
    }
    PackQueries(queries, pairs, shape.head_dim, query_);
  }

  void Run() {
    // Rows ascend, so the last pair sees the most keys.
    const int64_t keys = key_count_[pairs_ - 1];
    for (int64_t begin = 0; begin < keys; begin += kSegmentKeys) {
      // What comes first is not folded but where the rest is folded into.
      Partials<L>& span = begin < kSpanKeys ? total_ : span_;
      Partials<L>& segment = begin % kSpanKeys == 0 ? span : segment_;
      WithPairs<L::kPairsMax>(pairs_, [&](auto pairs) { Segment<pairs()>(begin, keys, segment); });
      for (int p = 0; p < pairs_; ++p) {
        if (key_count_[p] <= begin) continue;
        if (&segment != &span) Fold<L>(span, segment, p, shape_.head_dim);
        const int64_t end = begin + kSegmentKeys;
        if (key_count_[p] > end && end % kSpanKeys != 0) continue;
        if (&span != &total_) Fold<L>(total_, span, p, shape_.head_dim);
      }
    }
    for (int p = 0; p < pairs_; ++p) {
      const typename L::F inverse = L::Set(1.0f / total_.weight_sum[p]);
      const float* from = total_.output + p * shape_.head_dim;
      ForLanes<L>(
          shape_.head_dim,
          [&](int64_t d) { L::Store(output_[p] + d, L::Mul(L::Load(from + d), inverse)); },
          [&](int64_t d, int64_t n) {
            L::StoreFirst(output_[p] + d, L::Mul(L::LoadFirst(from + d, n), inverse), n);
          });
    }
  }

 private:
  static constexpr int64_t kLineFloats = 64 / sizeof(float);

  // Keys [begin, begin + kSegmentKeys) as far as `keys`.
  template <int kPairs>
  void Segment(int64_t begin, int64_t keys, Partials<L>& segment) {
    const int64_t end = keys < begin + kSegmentKeys ? keys : begin + kSegmentKeys;
    SegmentBlocks blocks;
    blocks.count = 0;
    for (int64_t key = begin; key < end; key += kKvBlockTokens) {
      blocks.blocks[blocks.count++] =
          call_.blocks + call_.block_table[key / kKvBlockTokens] * call_.block_stride;
    }
    ScoreSegment<L, kDType, kPairs>(shape_, blocks, query_, scores_);

    int64_t count[kPairs];
    for (int p = 0; p < kPairs; ++p) {
      const int64_t left = key_count_[p] - begin;
      count[p] = left < 0 ? 0 : left < kSegmentKeys ? left : kSegmentKeys;
      if (count[p] != 0) segment.max[p] = LargestScore<L>(scores_ + p * kSegmentKeys, count[p]);
    }
    // Not in the same loop: no pair waits for its maximum.
    for (int p = 0; p < kPairs; ++p) {
      if (count[p] == 0) continue;
      segment.weight_sum[p] = Softmax<L>(scores_ + p * kSegmentKeys, count[p], segment.max[p]);
    }
    // Together as far as the first row sees, then each pair's own last keys.
    AddValues<L, kDType, kPairs>(shape_, blocks, 0, count[0], scores_, segment.output);
    for (int p = 1; p < kPairs; ++p) {
      AddValues<L, kDType, 1>(shape_, blocks, count[0], count[p], scores_ + p * kSegmentKeys,
                              segment.output + p * shape_.head_dim);
    }
  }

  const AttentionCall& call_;
  const AttentionShape& shape_;
  int pairs_;
  float* query_;   // [head_dim][pairs]
  float* scores_;  // [kPairsMax][kSegmentKeys], then the weights.
  Partials<L> segment_;
  Partials<L> span_;
  Partials<L> total_;
  float* output_[L::kPairsMax];
  int64_t key_count_[L::kPairsMax];
};

}  // namespace
}  // namespace shoal::cpu
