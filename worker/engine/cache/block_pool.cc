// A heap instead of a stack of empty blocks: which block a sequence gets then depends only on which
// are empty, not on the order in which they were released.

#include "worker/engine/cache/block_pool.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "transport/base/check.h"

namespace shoal::engine {

BlockPool::BlockPool(int64_t block_count) {
  SHOAL_CHECK(block_count >= 0 && block_count <= INT32_MAX, "block count ", block_count);
  empty_.resize(static_cast<size_t>(block_count));
  std::iota(empty_.begin(), empty_.end(), 0);  // Ascending is a heap already.
  blocks_.resize(empty_.size());
}

BlockPool::Block& BlockPool::At(int32_t block) {
  SHOAL_CHECK(block >= 0 && block < block_count(), "block ", block, " of ", block_count());
  return blocks_[static_cast<size_t>(block)];
}

int32_t BlockPool::Take() {
  SHOAL_CHECK(free_count() > 0, "all ", blocks_.size(), " blocks are taken");
  int32_t block = 0;
  if (!empty_.empty()) {
    std::pop_heap(empty_.begin(), empty_.end(), std::greater<>());
    block = empty_.back();
    empty_.pop_back();
  } else {
    block = kept_.begin()->second;
    kept_.erase(kept_.begin());
  }
  At(block) = {.count = 1};
  return block;
}

void BlockPool::Share(int32_t block) {
  Block& shared = At(block);
  SHOAL_CHECK(shared.keep, "block ", block, " is not kept");
  if (shared.count++ == 0) kept_.erase(shared.released);
}

void BlockPool::Release(std::span<const int32_t> blocks) {
  for (auto entry = blocks.rbegin(); entry != blocks.rend(); ++entry) {
    Block& block = At(*entry);
    SHOAL_CHECK(block.count > 0, "block ", *entry, " is free already");
    if (--block.count > 0) continue;
    if (block.keep) {
      block.released = releases_++;
      kept_.emplace(block.released, *entry);
    } else {
      AddEmpty(*entry);
    }
  }
}

void BlockPool::AddEmpty(int32_t block) {
  empty_.push_back(block);
  std::push_heap(empty_.begin(), empty_.end(), std::greater<>());
}

void BlockPool::Drop(int32_t block) {
  Block& dropped = At(block);
  if (!dropped.keep) return;
  dropped.keep = false;
  if (dropped.count > 0) return;
  kept_.erase(dropped.released);
  AddEmpty(block);
}

void BlockPool::Keep(int32_t block) {
  Block& kept = At(block);
  SHOAL_CHECK(kept.count > 0, "block ", block, " is free");
  kept.keep = true;
}

}  // namespace shoal::engine
