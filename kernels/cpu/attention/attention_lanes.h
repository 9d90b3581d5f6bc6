#pragma once

// Attention of one variant. L is Avx2Lanes or Avx512Lanes. Local to the file that includes it
// (kernels/cpu/inline.h says why).

#include <immintrin.h>

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/attention_pass.h"

namespace shoal::cpu {
namespace {

template <typename L, KvDType kDType>
void AttendOfDType(const AttentionCall& call) {
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
void Attend(const AttentionCall& call) {
  static_assert(L::kPairsMax * (4 * 16 + kSegmentKeys) <= AttentionScratchFloats(16, 1));
  static_assert(L::kPairsMax * (4 * 256 + kSegmentKeys) <= AttentionScratchFloats(256, 1));
  switch (call.dtype) {
    case KvDType::kF16:
      return AttendOfDType<L, KvDType::kF16>(call);
    case KvDType::kF32:
      return AttendOfDType<L, KvDType::kF32>(call);
    case KvDType::kBF16:
      return AttendOfDType<L, KvDType::kBF16>(call);
    case KvDType::kInt8:
      return AttendOfDType<L, KvDType::kInt8>(call);
  }
}

template <typename L>
consteval AttentionKernels AttentionKernelsOf() {
  return {.attend = Attend<L>};
}

}  // namespace
}  // namespace shoal::cpu
