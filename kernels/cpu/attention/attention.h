#pragma once

// Attention over the cache's blocks, in every variant (kernels/ARITHMETIC.md, "Attention").

#include <cstddef>
#include <cstdint>

#include "kernels/format/packed.h"

namespace shoal::cpu {

// Attention of consecutive query rows of one sequence over the query heads that read one kv head.
struct AttentionCall {
  KvDType dtype;
  int64_t head_dim;
  int64_t head_count;      // Query heads here.
  int64_t position_begin;  // Of the first query row; row r sees keys 0..position_begin + r.
  int64_t row_count;
  const float* query;  // Row r, head h: query + r * query_stride + h * head_dim
  int64_t query_stride;
  float* output;  // Likewise, with output_stride.
  int64_t output_stride;
  const std::byte* blocks;  // This layer's and kv head's part of block b: blocks + b * block_stride
  int64_t block_stride;     // Bytes.
  const int32_t* block_table;  // [positions / 32]: the sequence's blocks.
  // Bytes from this kv head's part of a block to that of the call which comes next and reads the
  // same blocks, or 0. It is prefetched.
  int64_t next_head_offset = 0;
  float* scratch;  // [AttentionScratchFloats(head_dim, head_count)], the caller's own.
};

constexpr int64_t kSegmentKeys = 256;
constexpr int64_t kSpanKeys = 8192;

// Room for any variant's attention; generous, so that rows and heads can be blocked.
constexpr int64_t AttentionScratchFloats(int64_t head_dim, int64_t head_count) {
  return 16 * head_count * (kSegmentKeys + 3 * head_dim + 16);
}

struct AttentionKernels {
  void (*attend)(const AttentionCall& call);
};

extern const AttentionKernels kAttentionScalar;
extern const AttentionKernels kAttentionAvx2;
extern const AttentionKernels kAttentionAvx512;

}  // namespace shoal::cpu
