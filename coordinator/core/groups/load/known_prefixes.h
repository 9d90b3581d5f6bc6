#pragma once

// What a group has reported of its prefix cache.

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_set>

#include "transport/base/generation/prefix_hash.h"

namespace shoal::core {

// A guess, for routing only. Bounded: a group that reports more is taken to have nothing until it
// reports anew.
class KnownPrefixes {
 public:
  static constexpr size_t kMax = 65'536;

  void Apply(const PrefixReport& report);
  // How many tokens a request with these hashes (PrefixHashes) is expected to find there.
  int64_t ExpectedTokens(std::span<const uint64_t> hashes) const;
  size_t size() const { return hashes_.size(); }

 private:
  std::unordered_set<uint64_t> hashes_;
  bool overflowed_ = false;
};

}  // namespace shoal::core
