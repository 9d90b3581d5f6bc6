#pragma once

// Prompts whose streams took groups along, one after the other: they may be the cause, so they are
// refused for a while rather than tried on the groups that are left.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "coordinator/core/groups/model.h"
#include "transport/base/clock.h"

namespace shoal::core {

// Threading: none; owned by Region.
class Suspects {
 public:
  // The prompt is refused until then. Of more than 256, the oldest is forgotten.
  void Add(const ModelKey& key, const std::vector<int32_t>& prompt, TimeNs until);
  // For how long it still is; 0: it is not.
  TimeNs RefusedFor(const ModelKey& key, const std::vector<int32_t>& prompt, TimeNs now) const;
  size_t size() const { return suspects_.size(); }

 private:
  struct Hash {  // XXH3-128 of the tokens and the key: nothing of what a client wrote is kept.
    uint64_t high = 0;
    uint64_t low = 0;

    auto operator<=>(const Hash&) const = default;
  };
  struct Suspect {
    Hash hash;
    TimeNs until = 0;
  };

  static Hash HashOf(const ModelKey& key, const std::vector<int32_t>& prompt);

  std::deque<Suspect> suspects_;  // The latest last.
};

}  // namespace shoal::core
