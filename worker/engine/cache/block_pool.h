#pragma once

// Hands out the blocks of the KV cache and counts who reads them. Equal histories give equal plans:
// of the blocks that hold nothing the lowest is taken first, then the one that was released longest
// ago.

#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace shoal::engine {

// Threading: one thread.
class BlockPool {
 public:
  static constexpr int64_t kBlockTokens = 32;

  explicit BlockPool(int64_t block_count);

  // Blocks that hold positions [0, position_count).
  static int64_t BlocksFor(int64_t position_count) {
    return (position_count + kBlockTokens - 1) / kBlockTokens;
  }

  int64_t block_count() const { return static_cast<int64_t>(blocks_.size()); }
  // Blocks that no sequence has. Those that are kept count: they can be taken.
  int64_t free_count() const {
    return static_cast<int64_t>(empty_.size()) + static_cast<int64_t>(kept_.size());
  }
  // Of those, the ones whose content is kept.
  int64_t kept_count() const { return static_cast<int64_t>(kept_.size()); }
  bool taken(int32_t block) const { return blocks_[static_cast<size_t>(block)].count > 0; }

  // A block for one sequence, which may write it; there must be a free one. Content that was kept
  // in it is lost.
  int32_t Take();
  // One more sequence reads `block`, whose content is kept, whether others have it or none.
  void Share(int32_t block);
  // One sequence gives `blocks` back, in the order of its positions. Of those that are kept, the
  // last is taken anew first: without the blocks before it a block is of no use.
  void Release(std::span<const int32_t> blocks);
  // From now on the content of `block`, which is taken, outlives its sequences until it is taken
  // anew. Nobody writes it any more.
  void Keep(int32_t block);
  // The content of `block` is of no use after all.
  void Drop(int32_t block);

 private:
  struct Block {
    int32_t count = 0;  // Sequences that have it.
    bool keep = false;
    uint64_t released = 0;  // Its place in kept_, while it is there.
  };
  Block& At(int32_t block);
  void AddEmpty(int32_t block);

  std::vector<Block> blocks_;
  std::vector<int32_t> empty_;        // A heap with the lowest block in front.
  std::map<uint64_t, int32_t> kept_;  // By when they were released.
  uint64_t releases_ = 0;
};

}  // namespace shoal::engine
