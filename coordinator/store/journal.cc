#include "coordinator/store/journal.h"

#include <utility>
#include <variant>

#include "transport/base/check.h"

namespace shoal::store {

void Journal::Apply(core::JournalAction action) {
  std::visit([&](auto& what) { Apply(action.stream, std::move(what)); }, action.what);
}

void Journal::Apply(core::StreamId stream, core::JournalBegin begin) {
  JournalEntry entry{std::move(begin.request), std::move(begin.key), {}};
  const bool added = entries_.emplace(stream, std::move(entry)).second;
  SHOAL_CHECK(added, "stream ", stream, " is open already");
}

void Journal::Apply(core::StreamId stream, const core::JournalTokens& next) {
  const auto entry = entries_.find(stream);
  SHOAL_CHECK(entry != entries_.end(), "stream ", stream, " is not open");
  std::vector<int32_t>& tokens = entry->second.tokens;
  tokens.insert(tokens.end(), next.tokens.begin(), next.tokens.end());
}

void Journal::Apply(core::StreamId stream, core::JournalEnd) {
  const size_t removed = entries_.erase(stream);
  SHOAL_CHECK(removed == 1, "stream ", stream, " is not open");
}

const JournalEntry* Journal::Find(core::StreamId stream) const {
  const auto entry = entries_.find(stream);
  return entry == entries_.end() ? nullptr : &entry->second;
}

}  // namespace shoal::store
