// The reference for attention and its cache: one row, one head, one key at a time, in the
// contract's order.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/attention/attention.h"
#include "kernels/format/half.h"
#include "kernels/math/scalar.h"

namespace shoal::cpu {
namespace {

// A softmax-weighted sum over some keys, relative to their largest score.
struct Partial {
  float max;
  float weight_sum;
  float* output;  // [head_dim]
};

// Folds `next`, which covers the keys that follow, into `first`.
void Combine(Partial& first, const Partial& next, int64_t head_dim) {
  const float max = next.max > first.max ? next.max : first.max;
  const float a = math::Exp(first.max - max);
  const float b = math::Exp(next.max - max);
  first.weight_sum = __builtin_fmaf(first.weight_sum, a, next.weight_sum * b);
  for (int64_t d = 0; d < head_dim; ++d) {
    first.output[d] = __builtin_fmaf(first.output[d], a, next.output[d] * b);
  }
  first.max = max;
}

float LoadElement(KvDType dtype, const std::byte* cells, int64_t index, const float* scale) {
  if (dtype == KvDType::kInt8) {
    return static_cast<float>(static_cast<int8_t>(cells[index])) * *scale;
  }
  if (dtype == KvDType::kF32) {
    float value;
    std::memcpy(&value, cells + index * 4, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, cells + index * 2, sizeof(bits));
  return dtype == KvDType::kF16 ? F16ToF32(bits) : BF16ToF32(bits);
}

// One query row of one head.
class RowAttention {
 public:
  RowAttention(const AttentionCall& call, const float* query)
      : call_(call),
        query_(query),
        scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(call.head_dim)))),
        scores_(call.scratch),
        segment_{0, 0, scores_ + kSegmentKeys},
        span_{0, 0, segment_.output + call.head_dim},
        total_{0, 0, span_.output + call.head_dim} {}

  void Run(int64_t key_count, float* output) {
    for (int64_t span = 0; span < key_count; span += kSpanKeys) {
      const int64_t span_end = std::min(span + kSpanKeys, key_count);
      for (int64_t begin = span; begin < span_end; begin += kSegmentKeys) {
        Segment(begin, std::min(begin + kSegmentKeys, span_end));
        Add(segment_, /*is_first=*/begin == span, span_);
      }
      Add(span_, /*is_first=*/span == 0, total_);
    }
    const float inverse = 1.0f / total_.weight_sum;
    for (int64_t d = 0; d < call_.head_dim; ++d) output[d] = total_.output[d] * inverse;
  }

 private:
  void Add(const Partial& part, bool is_first, Partial& sum) const {
    if (!is_first) return Combine(sum, part, call_.head_dim);
    sum.max = part.max;
    sum.weight_sum = part.weight_sum;
    std::copy_n(part.output, call_.head_dim, sum.output);
  }

  const std::byte* Block(int64_t position) const {
    return call_.blocks + call_.block_table[position / kKvBlockTokens] * call_.block_stride;
  }

  // Of a block's keys, then of its values; only a dtype with scales has some.
  const float* Scales(const std::byte* block) const {
    return reinterpret_cast<const float*>(block + KvScaleOffset(call_.dtype, call_.head_dim));
  }

  void Segment(int64_t begin, int64_t end) {
    const int64_t head_dim = call_.head_dim;
    segment_.max = -std::numeric_limits<float>::infinity();
    for (int64_t key = begin; key < end; ++key) {
      const std::byte* block = Block(key);
      const float* scale = Scales(block) + key % kKvBlockTokens;
      float acc = 0.0f;
      for (int64_t i = 0; i < head_dim; ++i) {
        const int64_t cell = i * kKvBlockTokens + key % kKvBlockTokens;
        acc = __builtin_fmaf(query_[i], LoadElement(call_.dtype, block, cell, scale), acc);
      }
      const float score = acc * scale_;
      scores_[key - begin] = score;
      if (score > segment_.max) segment_.max = score;
    }
    std::fill_n(segment_.output, head_dim, 0.0f);
    for (int64_t key = begin; key < end; ++key) {
      float& weight = scores_[key - begin];
      weight = math::Exp(weight - segment_.max);
      const std::byte* block = Block(key);
      const std::byte* values = block + kKvBlockTokens * head_dim * ElementBytes(call_.dtype);
      const float* scale = Scales(block) + kKvBlockTokens + key % kKvBlockTokens;
      for (int64_t d = 0; d < head_dim; ++d) {
        const int64_t cell = (key % kKvBlockTokens) * head_dim + d;
        segment_.output[d] = __builtin_fmaf(weight, LoadElement(call_.dtype, values, cell, scale),
                                            segment_.output[d]);
      }
    }
    segment_.weight_sum = math::RowSum({scores_, static_cast<size_t>(end - begin)});
  }

  const AttentionCall& call_;
  const float* query_;
  float scale_;
  float* scores_;  // [kSegmentKeys], then the weights.
  Partial segment_;
  Partial span_;
  Partial total_;
};

void Attend(const AttentionCall& call) {
  for (int64_t row = 0; row < call.row_count; ++row) {
    for (int64_t head = 0; head < call.head_count; ++head) {
      RowAttention attention(call, call.query + row * call.query_stride + head * call.head_dim);
      attention.Run(call.position_begin + row + 1,
                    call.output + row * call.output_stride + head * call.head_dim);
    }
  }
}

}  // namespace

constinit const AttentionKernels kAttentionScalar = {.attend = Attend};

}  // namespace shoal::cpu
