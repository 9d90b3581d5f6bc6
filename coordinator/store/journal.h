#pragma once

// What it takes to continue a stream elsewhere: the request as it was granted, and its tokens so
// far.

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "coordinator/core/actions.h"

namespace shoal::store {

struct JournalEntry {
  core::Request request;
  core::ModelKey key;
  std::vector<int32_t> tokens;

  bool operator==(const JournalEntry&) const = default;
};

// The journal of all live streams, in memory. Bounded by its users: as many entries as there are
// live streams, each as long as a context. Threading: none; owned by the coordinator's event loop.
class Journal {
 public:
  // All of a region's, in order.
  void Apply(core::JournalAction action);

  const JournalEntry* Find(core::StreamId stream) const;  // Null if there is none.
  size_t size() const { return entries_.size(); }

 private:
  void Apply(core::StreamId stream, core::JournalBegin begin);
  void Apply(core::StreamId stream, const core::JournalTokens& next);
  void Apply(core::StreamId stream, core::JournalEnd end);

  std::map<core::StreamId, JournalEntry> entries_;
};

}  // namespace shoal::store
