#pragma once

// Hands out the blocks of the KV cache: lowest index first, so that equal histories give equal
// plans.

#include <cstdint>
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

  int64_t block_count() const { return static_cast<int64_t>(taken_.size()); }
  int64_t free_count() const { return static_cast<int64_t>(free_.size()); }

  // The lowest free block; there must be one.
  int32_t Take();
  // Each must be taken.
  void Release(std::span<const int32_t> blocks);

 private:
  std::vector<int32_t> free_;  // A heap with the lowest block in front.
  std::vector<bool> taken_;
};

}  // namespace shoal::engine
