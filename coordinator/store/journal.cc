#include "coordinator/store/journal.h"

#include <utility>

#include "transport/base/check.h"

namespace shoal::store {

void Journal::Open(uint64_t stream, JournalEntry entry) {
  const bool added = entries_.emplace(stream, std::move(entry)).second;
  SHOAL_CHECK(added, "stream ", stream, " is open already");
}

void Journal::Append(uint64_t stream, std::span<const int32_t> tokens) {
  const auto entry = entries_.find(stream);
  SHOAL_CHECK(entry != entries_.end(), "stream ", stream, " is not open");
  entry->second.tokens.insert(entry->second.tokens.end(), tokens.begin(), tokens.end());
}

void Journal::Close(uint64_t stream) {
  const size_t removed = entries_.erase(stream);
  SHOAL_CHECK(removed == 1, "stream ", stream, " is not open");
}

const JournalEntry* Journal::Find(uint64_t stream) const {
  const auto entry = entries_.find(stream);
  return entry == entries_.end() ? nullptr : &entry->second;
}

}  // namespace shoal::store
