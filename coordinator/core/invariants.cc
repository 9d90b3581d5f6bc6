#include "coordinator/core/invariants.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>

#include "coordinator/core/groups/versions.h"
#include "coordinator/core/streams/suspects.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

std::string FindBrokenRank(const Groups& groups, const Group& group, const GroupRank& rank) {
  const auto number = groups.connections().find(rank.connection);
  if (rank.away) {
    if (number == groups.connections().end()) return "";
    return Str("connection ", rank.connection, " of a rank that is away leads to ", number->second);
  }
  if (number == groups.connections().end() || number->second != group.number) {
    return Str("connection ", rank.connection, " does not lead to ", group.Name());
  }
  if (KeyOf(rank.info) != group.key) {
    return Str(Name(rank.info), " has ", KeyOf(rank.info), ", its group ", group.key);
  }
  return "";
}

std::string FindBrokenState(const Groups& groups, const Group& group) {
  if (group.state == GroupState::kForming && group.complete()) {
    return Str(group.Name(), " is complete and sends no canary");
  }
  if (group.state == GroupState::kCanary && !group.has_canary() && !group.canary_due) {
    return Str(group.Name(), " waits for a canary that it was not given");
  }
  const bool ends = group.state == GroupState::kDraining || group.state == GroupState::kStopping;
  if (group.canary_due && ends) return Str(group.Name(), " ends and is to get a canary");
  if (group.state == GroupState::kDraining && !group.drain_until) {
    return Str(group.Name(), " is drained without a deadline");
  }
  if (!groups.models().contains(group.key)) {
    return Str(group.Name(), " serves ", group.key, ", of which nothing is known");
  }
  if (group.state == GroupState::kReady &&
      group.canary_digest != groups.models().at(group.key).canary_digest) {
    return Str(group.Name(), " is ready, and its canary came to ", group.canary_digest,
               ", that of others to ", groups.models().at(group.key).canary_digest);
  }
  return "";
}

// What it was given: each sequence of one stream, and of one group.
std::string FindBrokenSequence(const Group& group, const Streams& streams,
                               const RegionOptions& options) {
  const size_t given = group.sequences.size() - (group.has_canary() ? 1 : 0);
  if (given > group.capacity()) {
    return Str(group.Name(), " was given ", given, " sequences, it takes ", group.capacity());
  }
  if (group.trial && !group.sequences.contains(*group.trial)) {
    return Str(group.Name(), " has sequence ", *group.trial, " on trial, which it was not given");
  }
  for (const auto& [sequence, work] : group.load.work()) {
    if (!group.sequences.contains(sequence) || work.tokens < 0) {
      return Str(group.Name(), " has ", work.tokens, " tokens of work for sequence ", sequence);
    }
  }
  for (const SequenceId sequence : group.sequences) {
    if (sequence > streams.last_sequence()) {
      return Str(group.Name(), " was given sequence ", sequence, ", the last one is ",
                 streams.last_sequence());
    }
    const auto id = streams.sequences().find(sequence);
    if (id == streams.sequences().end()) continue;  // A canary, or cancelled.
    const auto stream = streams.all().find(id->second);
    if (stream == streams.all().end() || stream->second.group != group.number) {
      return Str(group.Name(), " was given sequence ", sequence, " of stream ", id->second,
                 ", which is not with it");
    }
    const auto given = group.load.work().find(sequence);
    if (given == group.load.work().end()) {
      return Str(group.Name(), " has no work for sequence ", sequence, " of stream ", id->second);
    }
    if (options.protections.admission &&
        given->second.service_class != stream->second.grant.service_class) {
      return Str(group.Name(), " counts sequence ", sequence, " in another class than ",
                 ToString(stream->second.grant.service_class));
    }
  }
  return "";
}

std::string FindBrokenGroup(const Groups& groups, const Streams& streams,
                            const RegionOptions& options) {
  std::set<uint64_t> epochs;
  size_t rank_count = 0;
  for (const auto& [number, group] : groups.all()) {
    if (number != group.number) return Str("group ", group.number, " is known as ", number);
    if (!epochs.insert(group.epoch).second) return Str("two groups have epoch ", group.epoch);
    if (group.epoch <= options.boot || group.epoch > groups.last_epoch()) {
      return Str(group.Name(), " has an epoch that is not above ", options.boot, " and up to ",
                 groups.last_epoch());
    }
    std::string broken = FindBrokenState(groups, group);
    if (broken.empty()) broken = FindBrokenSequence(group, streams, options);
    if (!broken.empty()) return broken;
    int32_t away = 0;
    for (const auto& rank : group.ranks) {
      if (!rank) continue;
      if (rank->away) {
        ++away;
      } else {
        ++rank_count;
      }
      broken = FindBrokenRank(groups, group, *rank);
      if (!broken.empty()) return broken;
    }
    if (away != group.ranks_away) {
      return Str(away, " ranks of ", group.Name(), " are away, it counts ", group.ranks_away);
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
    if (group.key == stream.key &&
        group.HasRoomFor(stream.tokens_needed, stream.grant.service_class) &&
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
  // One that its group brought along is with it from the start.
  const bool brought = stream.sequence <= group.ignored_up_to;
  const bool begins = group.state == GroupState::kForming || group.state == GroupState::kCanary;
  if (group.state != GroupState::kReady && group.state != GroupState::kDraining &&
      !(begins && brought)) {
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
                             const EndedStreams& ended, const RegionOptions& options) {
  std::map<StreamId, ModelKey> waiting;
  size_t detached = 0;
  for (const auto& [key, queue] : streams.waiting()) {
    for (const auto& [tokens, arrival] : queue.by_size()) waiting[queue.at(arrival).stream] = key;
    const size_t fresh = queue.fresh();
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
    if (stream.detached_since) {
      ++detached;
      if (!stream.request.resumable) return Str("stream ", id, " lives, and nobody can want it");
    }
    if (ended.all().contains(id)) return Str("stream ", id, " lives and has ended");
    if (!stream.group) ++waiting_count;
    std::string broken = stream.group ? FindBrokenPlace(groups, streams, id, stream)
                                      : FindBrokenWaiting(groups, id, stream, waiting);
    if (!broken.empty()) return broken;
  }
  if (detached > kDetachedStreamsMax || ended.all().size() > kEndedStreamsMax) {
    return Str(detached, " streams without a listener and ", ended.all().size(),
               " that have ended are kept, at most ", kDetachedStreamsMax, " and ",
               kEndedStreamsMax, " may be");
  }
  if (waiting_count != streams.waiting_count()) {
    return Str(streams.waiting_count(), " turns in the queues are of ", waiting_count, " streams");
  }
  return "";
}

// What is due next is found without looking at every stream: those that are watched are those that
// there are.
std::string FindBrokenOrder(const Streams& streams, const DeadlineSet& deadlines) {
  size_t unanswered = 0;
  size_t ending = 0;
  for (const auto& [id, stream] : streams.all()) {
    if (stream.tokens.empty() != streams.unanswered().contains(stream.arrival)) {
      return Str("stream ", id, " has ", stream.tokens.size(), " tokens, and is ",
                 stream.tokens.empty() ? "not " : "", "among those without one");
    }
    if (stream.tokens.empty()) ++unanswered;
    if (!stream.deadline) continue;
    ++ending;
    if (!deadlines.contains({*stream.deadline, id})) {
      return Str("the deadline of stream ", id, " is not watched");
    }
  }
  if (unanswered != streams.unanswered().size() || ending != deadlines.size()) {
    return Str(streams.unanswered().size(), " streams without a token and ", deadlines.size(),
               " deadlines are watched, there are ", unanswered, " and ", ending);
  }
  return "";
}

// What each tenant is counted to have in flight is what its streams were granted, and those who
// share them.
std::string FindBrokenTenant(const Streams& streams, const Flights& flights,
                             const Tenants& tenants) {
  std::map<std::string, Tenants::Held> expected;
  const auto add = [&](const Grant& grant) {
    ++expected[grant.tenant].requests;
    expected[grant.tenant].tokens += grant.tokens;
  };
  for (const auto& [id, stream] : streams.all()) {
    add(stream.grant);
    const SharerMap* sharers = flights.SharersOf(id);
    if (sharers == nullptr) continue;
    for (const auto& [sharer, who] : *sharers) {
      if (who.grant) add(*who.grant);
    }
  }
  const std::map<std::string, Tenants::Held> counted = tenants.held();
  for (const auto& [name, held] : counted) expected.try_emplace(name);
  for (const auto& [name, granted] : expected) {
    const auto found = counted.find(name);
    const Tenants::Held held = found == counted.end() ? Tenants::Held{} : found->second;
    if (held == granted) continue;
    return Str("the streams of tenant '", name, "' are ", granted.requests, ", with ",
               granted.tokens, " tokens of its quota; it is counted to have ", held.requests,
               ", with ", held.tokens);
  }
  return "";
}

}  // namespace

std::string FindBrokenInvariant(const Groups& groups, const Streams& streams,
                                const EndedStreams& ended, const Flights& flights,
                                const Tenants& tenants, const DeadlineSet& deadlines,
                                const RegionOptions& options) {
  std::string broken = FindBrokenGroup(groups, streams, options);
  if (broken.empty()) broken = FindBrokenModel(groups);
  if (broken.empty()) broken = FindBrokenStream(groups, streams, ended, options);
  if (broken.empty()) broken = FindBrokenOrder(streams, deadlines);
  if (broken.empty()) broken = flights.FindFault(streams.all());
  return broken.empty() ? FindBrokenTenant(streams, flights, tenants) : broken;
}

}  // namespace shoal::core
