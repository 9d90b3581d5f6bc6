#pragma once

// The keys and values of one rank: its layers and key/value heads, in blocks of 32 positions.

#include <cstdint>

#include "kernels/device/buffer.h"
#include "kernels/format/packed.h"

namespace shoal::forward {

// Which block belongs to which sequence is the scheduler's knowledge; this is only the memory. A
// block's layers and heads lie together, so that huge pages hold what is used and little else.
class KvPool {
 public:
  KvPool(KvDType dtype, int64_t layer_count, int64_t kv_head_count, int64_t head_dim,
         int64_t block_count)
      : dtype_(dtype),
        kv_head_count_(kv_head_count),
        block_count_(block_count),
        head_bytes_(KvBlockBytes(dtype, head_dim)),
        block_stride_(layer_count * kv_head_count * head_bytes_),
        memory_(block_count * block_stride_) {}

  KvDType dtype() const { return dtype_; }
  int64_t block_count() const { return block_count_; }
  int64_t block_stride() const { return block_stride_; }  // Bytes.
  int64_t head_bytes() const { return head_bytes_; }      // From a kv head to the next.

  // Block b of this layer and head (both counted from the rank's first): Blocks(...) + b *
  // block_stride().
  std::byte* Blocks(int64_t layer, int64_t kv_head) const {
    return memory_.data() + (layer * kv_head_count_ + kv_head) * head_bytes_;
  }

 private:
  KvDType dtype_;
  int64_t kv_head_count_;
  int64_t block_count_;
  int64_t head_bytes_;
  int64_t block_stride_;
  device::Buffer memory_;
};

}  // namespace shoal::forward
