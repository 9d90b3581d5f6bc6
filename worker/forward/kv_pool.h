#pragma once

// The keys and values of one rank: its layers and key/value heads, in blocks of 32 positions.

#include <cstdint>

#include "kernels/device/buffer.h"
#include "kernels/format/packed.h"

namespace shoal::forward {

// Which block belongs to which sequence is the scheduler's knowledge; this is only the memory.
class KvPool {
 public:
  KvPool(KvDType dtype, int64_t layer_count, int64_t kv_head_count, int64_t head_dim,
         int64_t block_count)
      : dtype_(dtype),
        kv_head_count_(kv_head_count),
        block_count_(block_count),
        block_bytes_(KvBlockBytes(dtype, head_dim)),
        memory_(layer_count * kv_head_count * block_count * block_bytes_,
                device::PageSize::kSmall) {}

  KvDType dtype() const { return dtype_; }
  int64_t block_count() const { return block_count_; }
  int64_t block_bytes() const { return block_bytes_; }

  // Block b of this layer and head (both counted from the rank's first): Blocks(...) + b *
  // block_bytes().
  std::byte* Blocks(int64_t layer, int64_t kv_head) const {
    return memory_.data() + (layer * kv_head_count_ + kv_head) * block_count_ * block_bytes_;
  }

 private:
  KvDType dtype_;
  int64_t kv_head_count_;
  int64_t block_count_;
  int64_t block_bytes_;
  device::Buffer memory_;
};

}  // namespace shoal::forward
