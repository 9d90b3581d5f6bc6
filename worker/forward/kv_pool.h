#pragma once

// The keys and values of one rank: its layers and key/value heads, in blocks of 32 positions.

#include <cstdint>
#include <utility>

#include "kernels/device/buffer.h"
#include "kernels/format/packed.h"
#include "parallel/plan/kv_layout.h"

namespace shoal::forward {

// Which block belongs to which sequence is the scheduler's knowledge; this is only the memory. A
// block's layers and heads lie together, so that huge pages hold what is used and little else.
class KvPool {
 public:
  KvPool(KvDType dtype, plan::KvLayout layout, int64_t block_count)
      : dtype_(dtype),
        layout_(std::move(layout)),
        block_count_(block_count),
        memory_(block_count * layout_.block_stride) {}

  KvDType dtype() const { return dtype_; }
  int64_t block_count() const { return block_count_; }
  int64_t block_stride() const { return layout_.block_stride; }  // Bytes.
  // From a kv head of this layer, counted from the rank's first, to the next. Bytes.
  int64_t head_bytes(int64_t layer) const { return layout_.layers[layer].head_bytes(); }

  // Block b of this layer and head (both counted from the rank's first): Blocks(...) + b *
  // block_stride().
  std::byte* Blocks(int64_t layer, int64_t kv_head) const {
    return memory_.data() + layout_.layers[layer].offset + kv_head * head_bytes(layer);
  }

 private:
  KvDType dtype_;
  plan::KvLayout layout_;
  int64_t block_count_;
  device::Buffer memory_;
};

}  // namespace shoal::forward
