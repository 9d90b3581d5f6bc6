#include "coordinator/core/streams.h"

#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

std::string Stream::FindFault(const SequenceUpdate& update) const {
  const GenerationParams& params = request.params;
  const auto tokens_then = static_cast<int64_t>(tokens.size() + update.tokens.size());
  if (tokens_then > params.tokens_max) {
    return Str("sequence ", update.id, " has ", tokens_then, " tokens, at most ", params.tokens_max,
               " were asked for");
  }
  const size_t logprobs = params.top_logprobs >= 0 ? update.tokens.size() : 0;
  if (update.logprobs.size() != logprobs) {
    return Str("sequence ", update.id, " has ", update.logprobs.size(), " log-probabilities, ",
               logprobs, " were expected");
  }
  // They come in parts, before the first token.
  const auto prompt_logprobs = static_cast<int64_t>(update.prompt_logprobs.size());
  const int64_t left = prompt_logprobs_left - prompt_logprobs;
  const bool all_due = !update.tokens.empty() || update.finish == FinishReason::kStop ||
                       update.finish == FinishReason::kLength;
  if (left < 0 || (left > 0 && all_due)) {
    return Str("sequence ", update.id, " has ", prompt_logprobs,
               " log-probabilities of its prompt, ", prompt_logprobs_left,
               all_due ? "" : " or fewer", " were expected");
  }
  return "";
}

void Stream::Apply(const SequenceUpdate& update) {
  tokens.insert(tokens.end(), update.tokens.begin(), update.tokens.end());
  prompt_logprobs_left -= static_cast<int64_t>(update.prompt_logprobs.size());
}

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
