#include "coordinator/core/streams/streams.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

int64_t Stream::work_left() const {
  const int64_t prompt = tokens.empty() ? std::ssize(request.prompt) : 0;
  return prompt + request.params.tokens_max - std::ssize(tokens);
}

bool Stream::on_trial() const { return groups_lost >= groups_lost_max - 1; }

void Stream::Keep(const SequenceUpdate& update) {
  kept.logprobs.insert(kept.logprobs.end(), update.logprobs.begin(), update.logprobs.end());
  kept.prompt_logprobs.insert(kept.prompt_logprobs.end(), update.prompt_logprobs.begin(),
                              update.prompt_logprobs.end());
  kept.cached_tokens += update.cached_tokens;
}

Streams::Streams(std::function<uint64_t()> random, uint64_t boot, int32_t groups_lost_max)
    : random_(std::move(random)), groups_lost_max_(groups_lost_max), last_sequence_(boot) {}

StreamId Streams::Add(Stream stream) {
  const StreamId id = stream.request.stream ? *stream.request.stream : DrawId();
  stream.arrival = ++last_arrival_;
  stream.groups_lost_max = groups_lost_max_;
  const auto [entry, added] = streams_.emplace(id, std::move(stream));
  SHOAL_CHECK(added, "two streams are ", id);
  if (entry->second.tokens.empty()) unanswered_.emplace(entry->second.arrival, id);
  Wait(id, entry->second);
  return id;
}

void Streams::NoteAnswered(StreamId id) { unanswered_.erase(streams_.at(id).arrival); }

StreamId Streams::DrawId() {
  // In this order, which the arguments of a constructor would not keep.
  StreamId id;
  id.high = random_();
  id.low = random_();
  return id;
}

void Streams::SkipTo(SequenceId sequence) { last_sequence_ = std::max(last_sequence_, sequence); }

Stream& Streams::Place(StreamId id, uint64_t group, SequenceId sequence) {
  Stream& stream = streams_.at(id);
  StopWaiting(id, stream, true);
  if (stream.parked && stream.parked->cause) {
    ++stream.resumes;
    stream.stalls = true;
  }
  stream.parked.reset();
  ++stream.groups_had;
  stream.group = group;
  stream.sequence = sequence;
  stream.preemptions = 0;
  const bool added = ids_.emplace(sequence, id).second;
  SHOAL_CHECK(added, "two streams have sequence ", sequence);
  return stream;
}

void Streams::Park(StreamId id, Parked why) {
  Stream& stream = streams_.at(id);
  ids_.erase(stream.sequence);
  stream.sequence = 0;
  stream.group.reset();
  if (!why.cause) --stream.groups_had;
  stream.parked = std::move(why);
  Wait(id, stream);
}

Stream Streams::Remove(StreamId id) {
  StopWaiting(id, streams_.at(id), false);
  auto node = streams_.extract(id);
  unanswered_.erase(node.mapped().arrival);
  ids_.erase(node.mapped().sequence);
  return std::move(node.mapped());
}

void Streams::Configure(const FairRules& rules) {
  rules_ = rules;
  for (auto& [key, queue] : waiting_) queue.Configure(rules);
}

void Streams::Wait(StreamId id, const Stream& stream) {
  const auto [queue, is_new] = waiting_.try_emplace(stream.key);
  if (is_new) queue->second.Configure(rules_);
  queue->second.Add({.stream = id,
                     .arrival = stream.arrival,
                     .tenant = stream.grant.tenant,
                     .service_class = stream.grant.service_class,
                     .weight = stream.grant.weight,
                     .floor_share = stream.grant.floor_share,
                     .priority = stream.request.params.priority,
                     .tokens = stream.tokens_needed,
                     .parked = stream.parked.has_value(),
                     .retry = stream.request.terms.attempt > 1});
}

void Streams::StopWaiting(StreamId id, Stream& stream, bool served) {
  const auto queue = waiting_.find(stream.key);
  if (queue != waiting_.end()) {
    if (served) {
      queue->second.Serve(stream.arrival);
    } else {
      queue->second.Remove(stream.arrival);
    }
    if (queue->second.empty()) waiting_.erase(queue);
  }
  SetStranded(id, std::nullopt);
}

void Streams::SetStranded(StreamId id, std::optional<TimeNs> since) {
  streams_.at(id).stranded_since = since;
  if (since) {
    stranded_.insert(id);
  } else {
    stranded_.erase(id);
  }
}

const FairQueue& Streams::waiting(const ModelKey& key) const {
  static const FairQueue kEmpty;
  const auto queue = waiting_.find(key);
  return queue == waiting_.end() ? kEmpty : queue->second;
}

std::optional<StreamId> Streams::Next(const ModelKey& key, ServiceClass worst) const {
  const WaitingStream* next = waiting(key).Next(worst);
  return next == nullptr ? std::nullopt : std::optional(next->stream);
}

void Streams::SetAside(StreamId id) {
  const Stream& stream = streams_.at(id);
  waiting_.at(stream.key).SetAside(stream.arrival);
}

void Streams::Restore(const ModelKey& key) {
  const auto queue = waiting_.find(key);
  if (queue != waiting_.end()) queue->second.Restore();
}

void Streams::GiveBack(const Stream& ended, int64_t tokens) {
  const auto queue = waiting_.find(ended.key);
  if (queue == waiting_.end()) return;
  queue->second.GiveBack(ended.grant.tenant, ended.grant.service_class, tokens);
}

size_t Streams::waiting_count() const {
  size_t count = 0;
  for (const auto& [key, queue] : waiting_) count += queue.size();
  return count;
}

size_t Streams::detached_count() const {
  return static_cast<size_t>(std::ranges::count_if(
      streams_, [](const auto& entry) { return entry.second.detached_since.has_value(); }));
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
