// A heap instead of a stack of free blocks: which block a sequence gets then depends only on which
// are free, not on the order in which they were released.

#include "worker/engine/block_pool.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "transport/base/check.h"

namespace shoal::engine {

BlockPool::BlockPool(int64_t block_count) {
  SHOAL_CHECK(block_count >= 0 && block_count <= INT32_MAX, "block count ", block_count);
  free_.resize(static_cast<size_t>(block_count));
  std::iota(free_.begin(), free_.end(), 0);  // Ascending is a heap already.
  taken_.resize(free_.size());
}

int32_t BlockPool::Take() {
  SHOAL_CHECK(!free_.empty(), "all ", taken_.size(), " blocks are taken");
  std::pop_heap(free_.begin(), free_.end(), std::greater<>());
  const int32_t block = free_.back();
  free_.pop_back();
  taken_[static_cast<size_t>(block)] = true;
  return block;
}

void BlockPool::Release(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    SHOAL_CHECK(block >= 0 && block < block_count(), "block ", block, " of ", block_count());
    SHOAL_CHECK(taken_[static_cast<size_t>(block)], "block ", block, " is free already");
    taken_[static_cast<size_t>(block)] = false;
    free_.push_back(block);
    std::push_heap(free_.begin(), free_.end(), std::greater<>());
  }
}

}  // namespace shoal::engine
