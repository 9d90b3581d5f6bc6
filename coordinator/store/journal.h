#pragma once

// What it takes to continue a stream elsewhere: the request as it was admitted, and its tokens so
// far.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "transport/base/generation.h"

namespace shoal::store {

struct JournalEntry {
  std::vector<int32_t> prompt;
  GenerationParams params;  // With the effective seed.
  // The stream may go on only where this is the same: elsewhere its tokens would be others.
  std::string numerics_id;
  std::vector<int32_t> tokens;
};

// The journal of all live streams, in memory. Bounded by its users: as many entries as there are
// live streams, each as long as a context. Threading: none; owned by the coordinator's event loop.
class Journal {
 public:
  // `stream` is new.
  void Open(uint64_t stream, JournalEntry entry);
  // `stream` is open.
  void Append(uint64_t stream, std::span<const int32_t> tokens);
  // The stream has ended, by whatever end.
  void Close(uint64_t stream);

  const JournalEntry* Find(uint64_t stream) const;  // Null if there is none.
  size_t size() const { return entries_.size(); }

 private:
  std::map<uint64_t, JournalEntry> entries_;
};

}  // namespace shoal::store
