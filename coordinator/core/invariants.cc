#include "coordinator/core/invariants.h"

#include <cstdint>
#include <set>

#include "transport/base/check.h"

namespace shoal::core {

namespace {

std::string FindBrokenRank(const Groups& groups, const Group& group, const GroupRank& rank) {
  const auto number = groups.connections().find(rank.connection);
  if (number == groups.connections().end() || number->second != group.number) {
    return Str("connection ", rank.connection, " does not lead to ", group.Name());
  }
  if (!groups.model() || rank.info.numerics_id != groups.model()->numerics_id) {
    return Str(group.Name(), " has another numerics id than the region");
  }
  return "";
}

std::string FindBrokenGroup(const Groups& groups) {
  std::set<uint64_t> epochs;
  size_t rank_count = 0;
  for (const auto& [number, group] : groups.all()) {
    if (number != group.number) return Str("group ", group.number, " is known as ", number);
    if (!epochs.insert(group.epoch).second) return Str("two groups have epoch ", group.epoch);
    if (group.state == GroupState::kForming && group.complete()) {
      return Str(group.Name(), " is complete and sends no canary");
    }
    if (group.state == GroupState::kCanary && !group.sequences.contains(group.canary)) {
      return Str(group.Name(), " waits for a canary that it was not given");
    }
    if (group.sequences.size() > group.capacity()) {
      return Str(group.Name(), " was given ", group.sequences.size(), " sequences, it takes ",
                 group.capacity());
    }
    for (const auto& rank : group.ranks) {
      if (!rank) continue;
      ++rank_count;
      std::string broken = FindBrokenRank(groups, group, *rank);
      if (!broken.empty()) return broken;
    }
  }
  if (rank_count != groups.connections().size()) {
    return Str(groups.connections().size(), " connections lead to ", rank_count, " ranks");
  }
  return "";
}

std::string FindBrokenWaiting(const Groups& groups, StreamId id, const Stream& stream,
                              const std::set<StreamId>& waiting) {
  if (!waiting.contains(id)) return Str("stream ", id, " has no group and does not wait for one");
  for (const auto& [number, group] : groups.all()) {
    if (group.HasRoomFor(stream.tokens_needed)) {
      return Str("stream ", id, " waits, and ", group.Name(), " has room for it");
    }
  }
  return "";
}

std::string FindBrokenPlace(const Groups& groups, StreamId id, const Stream& stream) {
  const auto found = groups.all().find(*stream.group);
  if (found == groups.all().end()) return Str("stream ", id, " has a group that is gone");
  const Group& group = found->second;
  if (group.state != GroupState::kReady) {
    return Str("stream ", id, " is with ", group.Name(), ", which is not ready");
  }
  if (!group.sequences.contains(stream.sequence)) {
    return Str("stream ", id, " is with ", group.Name(), ", which was not given it");
  }
  if (stream.tokens_needed > group.shape().kv_cache_tokens) {
    return Str("stream ", id, " needs ", stream.tokens_needed, " tokens of KV cache, more than ",
               group.Name(), " has");
  }
  return "";
}

std::string FindBrokenStream(const Groups& groups, const Streams& streams,
                             const RegionOptions& options) {
  std::set<StreamId> waiting;
  for (const Turn& turn : streams.waiting().turns()) waiting.insert(streams.waiting().at(turn));
  if (waiting.size() > static_cast<size_t>(options.queue_requests_max)) {
    return Str(waiting.size(), " streams wait, at most ", options.queue_requests_max, " may");
  }
  size_t waiting_count = 0;
  for (const auto& [id, stream] : streams.all()) {
    const auto tokens = static_cast<int64_t>(stream.tokens.size());
    if (stream.request.prompt.empty()) return Str("stream ", id, " has lost its prompt");
    if (tokens > stream.request.params.tokens_max || stream.prompt_logprobs_left < 0) {
      return Str("stream ", id, " was brought more than it asked for");
    }
    if (!stream.group) ++waiting_count;
    if (streams.FindId(stream.sequence) != id) {
      return Str("stream ", id, " is not found by its sequence ", stream.sequence);
    }
    std::string broken = stream.group ? FindBrokenPlace(groups, id, stream)
                                      : FindBrokenWaiting(groups, id, stream, waiting);
    if (!broken.empty()) return broken;
  }
  if (waiting_count != streams.waiting().size()) {
    return Str(streams.waiting().size(), " turns in the queue are of ", waiting_count, " streams");
  }
  return "";
}

}  // namespace

std::string FindBrokenInvariant(const Groups& groups, const Streams& streams,
                                const RegionOptions& options) {
  std::string broken = FindBrokenGroup(groups);
  return broken.empty() ? FindBrokenStream(groups, streams, options) : broken;
}

}  // namespace shoal::core
