#include "coordinator/core/streams/ended.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

std::optional<EndedStream> EndedStreams::Add(StreamId id, EndedStream ended) {
  const bool added = streams_.emplace(id, std::move(ended)).second;
  SHOAL_CHECK(added, "stream ", id, " has ended before");
  order_.push_back(id);
  if (order_.size() <= kEndedStreamsMax) return std::nullopt;
  return Remove(order_.front());
}

EndedStream* EndedStreams::Find(StreamId id) {
  const auto ended = streams_.find(id);
  return ended == streams_.end() ? nullptr : &ended->second;
}

std::optional<EndedStream> EndedStreams::Remove(StreamId id) {
  auto node = streams_.extract(id);
  if (node.empty()) return std::nullopt;
  std::erase(order_, id);
  return std::move(node.mapped());
}

bool EndedStreams::HasHolder(const Holder& holder) const {
  return std::ranges::any_of(streams_,
                             [&](const auto& entry) { return entry.second.holder == holder; });
}

std::vector<StreamId> EndedStreams::Expired(TimeNs now) const {
  std::vector<StreamId> expired;
  for (const auto& [id, ended] : streams_) {
    if (ended.until <= now) expired.push_back(id);
  }
  return expired;
}

void EndedStreams::Clear() {
  streams_.clear();
  order_.clear();
}

}  // namespace shoal::core
