#pragma once

// Finds the blocks of the KV cache that already hold a sequence's first tokens. Only full blocks
// are found, and only in a chain: each block by its own tokens and the block before it.
//
// A chain starts at a root of (secret, numerics id, tenant's salt); each block's hash is XXH3-128
// of its parent's hash and its own tokens. The hash only says where to look: a hit compares the
// salt, the tokens, and that the parent is the very block that the chain went through, so equal
// hashes of different prefixes cannot be mistaken for each other.
//
// It also tells what has changed, in hashes that a coordinator can compute for a prompt
// (transport/base/generation/prefix_hash.h).

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "transport/base/generation/prefix_hash.h"
#include "worker/engine/cache/block_pool.h"

namespace shoal::engine {

static_assert(kPrefixBlockTokens == BlockPool::kBlockTokens);

// Threading: one thread.
class PrefixCache {
 public:
  // A place in a chain: the end of some full blocks of a sequence.
  struct Node {
    uint64_t hash_low = 0;
    uint64_t hash_high = 0;
    uint64_t entry = 0;        // A number that no other content ever has; 0: the root.
    uint64_t public_hash = 0;  // As in reports.
  };
  struct Hit {
    int32_t block = 0;
    Node node;  // The place after it.
  };

  // `secret` keeps tenants from making prefixes of equal hashes; `numerics_id` says what computed
  // the blocks.
  PrefixCache(int64_t block_count, std::string_view secret, std::string_view numerics_id);

  Node Root(std::string_view salt) const;

  // The block that holds `tokens`, BlockPool::kBlockTokens of them, after `parent`, for sequences
  // with this salt.
  std::optional<Hit> Find(const Node& parent, std::span<const int32_t> tokens,
                          std::string_view salt) const;

  // From now on `block` is found there, unless another one with the same content already is, which
  // then stays. An entry that only has the same hash (its parent is no longer in the cache) is
  // replaced.
  struct Added {
    Node node;            // The place after the block that is found.
    bool is_new = false;  // The block that is found is `block`.
  };
  Added Add(const Node& parent, std::span<const int32_t> tokens, std::string_view salt,
            int32_t block);

  // True if `block` is what was added as this entry (Node::entry), and still is.
  bool Holds(int32_t block, uint64_t entry) const { return At(block).number == entry; }

  // `block` will hold something else. Does nothing if it is not in the cache.
  void Forget(int32_t block);

  // Whoever hears the reports knows nothing: the next one is full.
  void ReportAnew();
  // What has changed since the last call, kPrefixReportMax hashes at most; the rest comes with the
  // next ones.
  PrefixReport TakeReport();

 private:
  struct Hash {
    uint64_t low = 0;
    uint64_t high = 0;
    bool operator==(const Hash&) const = default;
  };
  struct HashOfHash {
    size_t operator()(const Hash& hash) const { return hash.low; }
  };
  struct Entry {
    uint64_t number = 0;  // 0: not in the cache.
    uint64_t parent = 0;
    Hash hash;
    uint64_t public_hash = 0;
    std::string salt;  // Only in a chain's first block: the others have their parent's.
    std::array<int32_t, BlockPool::kBlockTokens> tokens{};
  };

  static Hash Chain(const Node& parent, std::span<const int32_t> tokens);
  static bool Matches(const Entry& entry, const Node& parent, std::span<const int32_t> tokens,
                      std::string_view salt);
  void NoteChange(uint64_t public_hash, int32_t by);
  Entry& At(int32_t block) { return entries_[static_cast<size_t>(block)]; }
  const Entry& At(int32_t block) const { return entries_[static_cast<size_t>(block)]; }

  const std::string root_;
  std::vector<Entry> entries_;  // By block.
  std::unordered_map<Hash, int32_t, HashOfHash> blocks_;
  uint64_t numbers_ = 0;
  // Hashes that have come (more often than gone) or gone since they were reported. At most as many
  // as the blocks that are there and those that were reported.
  std::unordered_map<uint64_t, int32_t> changes_;
  bool report_full_ = true;
};

}  // namespace shoal::engine
