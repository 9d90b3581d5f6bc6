#pragma once

// Attention over vectors of lanes, written once for every instruction set: L is Avx2Lanes or
// Avx512Lanes. Local to the file that includes it, like everything compiled with its flags
// (CMakeLists.txt says why). The scalar row is attention_scalar.cc, which shares nothing with this.
//
// Up to L::kPairsMax (query row, query head) pairs go through the keys together, so that a key or
// value is loaded and widened once for all of them. Which pairs share a pass changes no bit: every
// sum belongs to one pair, and visits its keys in ascending order.

#include <immintrin.h>

#include <type_traits>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/rows_lanes.h"
#include "kernels/cpu/table.h"

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

// A NaN may be lost here; its own weight is NaN whatever the maximum, and with it the sum.
template <typename L>
float LargestScore(const float* scores, int64_t count) {
  using F = typename L::F;
  const F lowest = L::Set(-__builtin_inff());
  F m = lowest;
  ForLanes<L>(
      count, [&](int64_t i) { m = L::Max(m, L::Load(scores + i)); },
      [&](int64_t i, int64_t n) {
        m = L::Max(m, L::KeepFirst(L::LoadFirst(scores + i, n), lowest, n));
      });
  return L::MaxOfLanes(m);
}

// Turns `count` scores into weights, in place, and returns the weights' sum.
template <typename L>
float Softmax(float* scores, int64_t count, float max) {
  using F = typename L::F;
  const F largest = L::Set(max);
  typename L::Partials sums = L::Partials::Zeros();
  const auto add = [&](int64_t i, F weight) {
    F& partial = sums.At(static_cast<int>(i / L::kWidth));
    partial = L::Add(partial, weight);
  };
  ForLanes<L>(
      count,
      [&](int64_t i) {
        const F weight = ExpLanes<L>(L::Sub(L::Load(scores + i), largest));
        L::Store(scores + i, weight);
        add(i, weight);
      },
      [&](int64_t i, int64_t n) {
        const F weight = ExpLanes<L>(L::Sub(L::LoadFirst(scores + i, n), largest));
        L::StoreFirst(scores + i, weight, n);
        add(i, L::KeepFirst(weight, L::Zero(), n));  // Weights are never -0: + 0 changes nothing.
      });
  return sums.Total();
}

// Softmax-weighted sums over some keys, one for each pair of a pass.
template <typename L>
struct Partials {
  float max[L::kPairsMax];
  float weight_sum[L::kPairsMax];
  float* output;  // [kPairsMax][head_dim]
};

// Folds pair p of `next`, which covers the keys that follow, into `sum`.
template <typename L>
void Fold(Partials<L>& sum, const Partials<L>& next, int p, int64_t head_dim) {
  using F = typename L::F;
  float* to = sum.output + p * head_dim;
  const float* from = next.output + p * head_dim;
  const float max = next.max[p] > sum.max[p] ? next.max[p] : sum.max[p];
  const F a = ExpLanes<L>(L::Set(sum.max[p] - max));
  const F b = ExpLanes<L>(L::Set(next.max[p] - max));
  const auto fold = [&](F x, F y) { return L::Fma(x, a, L::Mul(y, b)); };
  sum.max[p] = max;
  sum.weight_sum[p] = L::Lane0(fold(L::Set(sum.weight_sum[p]), L::Set(next.weight_sum[p])));
  ForLanes<L>(
      head_dim, [&](int64_t d) { L::Store(to + d, fold(L::Load(to + d), L::Load(from + d))); },
      [&](int64_t d, int64_t n) {
        L::StoreFirst(to + d, fold(L::LoadFirst(to + d, n), L::LoadFirst(from + d, n)), n);
      });
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

template <typename L, KvDType kDType>
void AttentionOfDType(const AttentionCall& call) {
  // IEEE division and square root: the same bits as std::sqrt, without its header.
  const double root = _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set1_pd(static_cast<double>(call.head_dim))));
  const AttentionShape shape = {
      .head_dim = call.head_dim,
      .value_offset = kKvBlockTokens * call.head_dim * ElementBytes(kDType),
      .row_bytes = call.head_dim * ElementBytes(kDType),
      .scale_offset = KvScaleOffset(kDType, call.head_dim),
      .scale = static_cast<float>(1.0 / root),
      .next_head_offset = call.next_head_offset,
  };
  const int64_t total = call.row_count * call.head_count;
  for (int64_t first = 0; first < total; first += L::kPairsMax) {
    const int64_t left = total - first;
    const int pairs = static_cast<int>(left < L::kPairsMax ? left : L::kPairsMax);
    AttentionPass<L, kDType>(call, shape, first, pairs).Run();
  }
}

template <typename L>
void Attention(const AttentionCall& call) {
  static_assert(L::kPairsMax * (4 * 16 + kSegmentKeys) <= AttentionScratchFloats(16, 1));
  static_assert(L::kPairsMax * (4 * 256 + kSegmentKeys) <= AttentionScratchFloats(256, 1));
  switch (call.dtype) {
    case KvDType::kF16:
      return AttentionOfDType<L, KvDType::kF16>(call);
    case KvDType::kF32:
      return AttentionOfDType<L, KvDType::kF32>(call);
    case KvDType::kBF16:
      return AttentionOfDType<L, KvDType::kBF16>(call);
    case KvDType::kInt8:
      return AttentionOfDType<L, KvDType::kInt8>(call);
  }
}

}  // namespace
}  // namespace shoal::cpu
