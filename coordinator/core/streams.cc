#include "coordinator/core/streams.h"

#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

Streams::Streams(std::function<uint64_t()> random) : random_(std::move(random)) {}

StreamId Streams::Add(Stream stream) {
  const StreamId id{random_(), random_()};
  const SequenceId sequence = stream.sequence = TakeSequence();
  waiting_[stream.key].Add({stream.request.params.priority, sequence}, id);
  const bool added = streams_.emplace(id, std::move(stream)).second;
  SHOAL_CHECK(added, "two streams are ", id);
  ids_[sequence] = id;
  return id;
}

Stream& Streams::Place(StreamId id, uint64_t group) {
  Stream& stream = streams_.at(id);
  const auto queue = waiting_.find(stream.key);
  queue->second.Serve({stream.request.params.priority, stream.sequence});
  if (queue->second.empty()) waiting_.erase(queue);
  stream.group = group;
  return stream;
}

void Streams::Remove(StreamId id) {
  const auto stream = streams_.find(id);
  const auto queue = waiting_.find(stream->second.key);
  if (queue != waiting_.end()) {
    queue->second.Remove(stream->second.sequence);
    if (queue->second.empty()) waiting_.erase(queue);
  }
  ids_.erase(stream->second.sequence);
  streams_.erase(stream);
}

const ClassQueue<StreamId>& Streams::waiting(const ModelKey& key) const {
  static const ClassQueue<StreamId> kEmpty;
  const auto queue = waiting_.find(key);
  return queue == waiting_.end() ? kEmpty : queue->second;
}

size_t Streams::waiting_count() const {
  size_t count = 0;
  for (const auto& [key, queue] : waiting_) count += queue.size();
  return count;
}

Stream* Streams::Find(StreamId id) {
  const auto stream = streams_.find(id);
  return stream == streams_.end() ? nullptr : &stream->second;
}

std::optional<StreamId> Streams::FindId(SequenceId sequence) const {
  const auto id = ids_.find(sequence);
  return id == ids_.end() ? std::nullopt : std::optional(id->second);
}

}  // namespace shoal::core
