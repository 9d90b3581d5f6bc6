#include "worker/forward/ops/attention_tiles.h"

#include <algorithm>

#include "kernels/format/packed.h"

namespace shoal::forward {
namespace {

// Query rows of a tile in prefill: enough to share the reading of keys, few enough to spread a
// chunk over the threads.
constexpr int64_t kAttentionRows = 16;

}  // namespace

void AttentionTiles::List(const StepRows& rows) {
  tiles_.clear();
  calls_.clear();
  for (int64_t begin = 0, end = 0; begin < rows.count(); begin = end) {
    const Row& first = rows[begin];
    const auto follows = [&](const Row& row) {
      return row.item == first.item && row.position == first.position + end - begin;
    };
    while (end < rows.count() && end - begin < kAttentionRows && follows(rows[end])) ++end;
    const int64_t last_block = rows[end - 1].position / kKvBlockTokens;
    int64_t read_end = end;
    while (read_end < rows.count() && rows[read_end].item == first.item &&
           rows[read_end].position / kKvBlockTokens == last_block) {
      ++read_end;
    }
    for (int64_t kv_head = kv_heads_.begin; kv_head < kv_heads_.end; ++kv_head) {
      const int64_t head = std::max(kv_head * head_group_, heads_.begin);
      const int64_t head_end = std::min((kv_head + 1) * head_group_, heads_.end);
      tiles_.push_back({.rows = {begin, end},
                        .kv_head = kv_head - kv_heads_.begin,
                        .heads = {head - heads_.begin, head_end - heads_.begin}});
      calls_.push_back({.rows = {begin, end}, .read_end = read_end});
    }
  }
}

}  // namespace shoal::forward
