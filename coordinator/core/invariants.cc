#include "coordinator/core/invariants.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>

#include "coordinator/core/groups/routing.h"
#include "coordinator/core/streams/suspects.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

std::string FindBrokenRank(const Groups& groups, const Group& group, const GroupRank& rank) {
  const auto number = groups.connections().find(rank.connection);
  if (number == groups.connections().end() || number->second != group.number) {
    return Str("connection ", rank.connection, " does not lead to ", group.Name());
  }
  if (KeyOf(rank.info) != group.key) {
    return Str(Name(rank.info), " has ", KeyOf(rank.info), ", its group ", group.key);
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
    if (group.state == GroupState::kCanary &&
        !(group.canary && group.sequences.contains(group.canary->sequence))) {
      return Str(group.Name(), " waits for a canary that it was not given");
    }
    if (!groups.models().contains(group.key)) {
      return Str(group.Name(), " serves ", group.key, ", of which nothing is known");
    }
    if (group.state == GroupState::kReady &&
        group.canary_digest != groups.models().at(group.key).canary_digest) {
      return Str(group.Name(), " is ready, and its canary came to ", group.canary_digest,
                 ", that of others to ", groups.models().at(group.key).canary_digest);
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

std::string FindBrokenModel(const Groups& groups) {
  size_t remembered = 0;
  for (const auto& [key, model] : groups.models()) {
    const bool ready = CountReady(groups.all(), key) > 0;
    if (ready != (model.ready_since != 0)) {
      return Str("groups of ", key, " are ", ready ? "" : "not ", "ready, and its entry differs");
    }
    const bool has_group = std::ranges::any_of(
        groups.all(), [&](const auto& entry) { return entry.second.key == key; });
    if (has_group) continue;
    ++remembered;
    if (!model.has_served) return Str(key, " is remembered, and has never been ready");
  }
  if (remembered > kModelsRememberedMax) {
    return Str(remembered, " models without a group are remembered, at most ", kModelsRememberedMax,
               " may");
  }
  return "";
}

std::string FindBrokenWaiting(const Groups& groups, StreamId id, const Stream& stream,
                              const std::map<StreamId, ModelKey>& waiting) {
  if (stream.sequence != 0) {
    return Str("stream ", id, " waits, and has sequence ", stream.sequence);
  }
  const auto key = waiting.find(id);
  if (key == waiting.end() || key->second != stream.key) {
    return Str("stream ", id, " has no group and does not wait for one of ", stream.key);
  }
  for (const auto& [number, group] : groups.all()) {
    if (group.key == stream.key && group.HasRoomFor(stream.tokens_needed) &&
        !(stream.on_trial() && group.trial)) {
      return Str("stream ", id, " waits, and ", group.Name(), " has room for it");
    }
  }
  return "";
}

std::string FindBrokenPlace(const Groups& groups, const Streams& streams, StreamId id,
                            const Stream& stream) {
  if (streams.FindId(stream.sequence) != id) {
    return Str("stream ", id, " is not found by its sequence ", stream.sequence);
  }
  if (stream.parked || stream.stranded_since) {
    return Str("stream ", id, " has a group and is to wait for one");
  }
  const auto found = groups.all().find(*stream.group);
  if (found == groups.all().end()) return Str("stream ", id, " has a group that is gone");
  const Group& group = found->second;
  if (group.key != stream.key) {
    return Str("stream ", id, " of ", stream.key, " is with ", group.Name(), " of ", group.key);
  }
  if (stream.on_trial() && group.trial != stream.sequence) {
    return Str("stream ", id, " has lost ", stream.groups_lost, " groups and is not alone with ",
               group.Name());
  }
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
  std::map<StreamId, ModelKey> waiting;
  for (const auto& [key, queue] : streams.waiting()) {
    for (const Turn& turn : queue.turns()) waiting[queue.at(turn)] = key;
    const size_t fresh = streams.waiting_new(key);
    if (queue.empty() || fresh > static_cast<size_t>(options.queue_requests_max)) {
      return Str(fresh, " new streams wait for ", key, ", at most ", options.queue_requests_max,
                 " may");
    }
  }
  size_t waiting_count = 0;
  for (const auto& [id, stream] : streams.all()) {
    const auto tokens = static_cast<int64_t>(stream.tokens.size());
    if (stream.request.prompt.empty()) return Str("stream ", id, " has lost its prompt");
    if (tokens > stream.request.params.tokens_max || stream.prompt_logprobs_left < 0) {
      return Str("stream ", id, " was brought more than it asked for");
    }
    if (stream.groups_lost >= stream.groups_lost_max) {
      return Str("stream ", id, " has lost ", stream.groups_lost, " groups and goes on");
    }
    if (!stream.group) ++waiting_count;
    std::string broken = stream.group ? FindBrokenPlace(groups, streams, id, stream)
                                      : FindBrokenWaiting(groups, id, stream, waiting);
    if (!broken.empty()) return broken;
  }
  if (waiting_count != streams.waiting_count()) {
    return Str(streams.waiting_count(), " turns in the queues are of ", waiting_count, " streams");
  }
  return "";
}

}  // namespace

std::string FindBrokenInvariant(const Groups& groups, const Streams& streams,
                                const RegionOptions& options) {
  std::string broken = FindBrokenGroup(groups);
  if (broken.empty()) broken = FindBrokenModel(groups);
  return broken.empty() ? FindBrokenStream(groups, streams, options) : broken;
}

}  // namespace shoal::core
