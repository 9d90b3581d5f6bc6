// Where streams are: with a group, or waiting for one.

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/core/groups/versions.h"
#include "coordinator/core/region.h"
#include "transport/base/check.h"
#include "transport/base/generation/prefix_hash.h"

namespace shoal::core {

namespace {

// At least 1, so that it is not taken for none.
int64_t DeadlineLeftMs(const Stream& stream, TimeNs now) {
  if (!stream.group_deadline) return 0;
  const TimeNs left = *stream.group_deadline - now;
  return std::max<int64_t>(1, (left + kMillisecondNs - 1) / kMillisecondNs);
}

// What found no group in this pass, so that its like is not asked for again.
struct Refused {
  std::array<int64_t, kServiceClasses> tokens{INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};

  // One on trial says nothing of others.
  void Add(const Stream& stream) {
    if (stream.on_trial()) return;
    int64_t& least = tokens[static_cast<size_t>(stream.grant.service_class)];
    least = std::min(least, stream.tokens_needed);
  }
  // Whether one of its class or a better one, and no larger, was refused.
  bool Covers(const Stream& stream) const {
    const auto end = tokens.begin() + static_cast<int>(stream.grant.service_class) + 1;
    return *std::min_element(tokens.begin(), end) <= stream.tokens_needed;
  }
};

}  // namespace

void Region::LoseStreamsGroup(StreamId id, Parked why) {
  Stream& stream = *streams_.Find(id);
  if (Withdraw(stream.sequence)) return streams_.Park(id, {std::nullopt, std::move(why.why)});
  Record record = RecordOf(RecordKind::kParked, id, stream);
  record.group = stream.group;
  record.detail = why.why;
  recorder_.Note(std::move(record));
  // One that is lost is not blamed when it is started anew: it has a canary to show that it is
  // well.
  if (stream.group && groups_.Find(*stream.group) != nullptr) {
    stream.gave_up = stream.group;
    guard_.NoteError(*stream.group, groups_.all(), clock_.now());
  }
  if (++stream.groups_lost < stream.groups_lost_max) return streams_.Park(id, std::move(why));
  const TimeNs refusal_ns = options_.suspect_refusal_ms * kMillisecondNs;
  suspects_.Add(stream.key, stream.request.prompt, clock_.now() + refusal_ns);
  FailStream(id, {BusyReason::kRequestSuspect,
                  Str(stream.groups_lost, " groups were lost that had this request, the last: ",
                      why.why, ". It may be the cause: it is not tried again"),
                  options_.suspect_refusal_ms});
}

ServiceClass Region::ClassInGroup(const Stream& stream) const {
  return options_.protections.admission ? stream.grant.service_class : ServiceClass::kCritical;
}

std::optional<uint64_t> Region::ChooseGroupFor(StreamId id, const Stream& stream) const {
  const std::string salt = PrefixSalt(stream.grant.tenant, stream.request.params.cache_salt);
  return router_.Choose({.key = stream.key,
                         .tokens = stream.tokens_needed,
                         .service_class = ClassInGroup(stream),
                         .avoid = stream.gave_up,
                         .on_trial = stream.on_trial(),
                         .stream = id,
                         .session = stream.request.terms.session,
                         .prompt = stream.request.prompt,
                         .salt = salt,
                         .may_share = !stream.request.params.prompt_logprobs},
                        groups_.all(), guard_, clock_.now());
}

// Groups that end together are heard of one after the other, and what the first one had may have
// been placed with the next one meanwhile.
bool Region::Withdraw(SequenceId sequence) {
  return std::erase_if(actions_, [&](const Action& action) {
           const auto* submit = std::get_if<SubmitAction>(&action);
           return submit != nullptr && submit->request.id == sequence;
         }) > 0;
}

// What is next goes first; where that does not fit, what comes after it.
void Region::Dispatch(const ModelKey& key) {
  StrandTooLarge(key);
  for (const auto& [number, group] : groups_.all()) {
    if (group.key == key && group.shaped) Shape(groups_.at(number), 0);
  }
  Refused refused;
  while (const auto worst = FindPlace(groups_.all(), key)) {
    const auto next = streams_.Next(key, *worst);
    if (!next) break;
    const Stream& stream = *streams_.Find(*next);
    if (stream.deadline && *stream.deadline <= clock_.now()) {
      Expire(*next);
      continue;
    }
    const bool hopeless = refused.Covers(stream);
    const auto number = hopeless ? std::nullopt : ChooseGroupFor(*next, stream);
    if (number) {
      Place(*next, groups_.at(*number));
      continue;
    }
    refused.Add(stream);
    streams_.SetAside(*next);
  }
  streams_.Restore(key);
}

void Region::DispatchAll() {
  std::vector<ModelKey> keys;
  for (const auto& [key, queue] : streams_.waiting()) keys.push_back(key);
  for (const ModelKey& key : keys) Dispatch(key);
}

void Region::Shape(Group& group, int64_t tokens) {
  const double rate = tenants_.policy().shape_tokens_per_second;
  const bool is_on = options_.protections.edge_limit && rate > 0;
  if (is_on && tokens > 0) group.shaping.Take(tokens, rate, clock_.now());
  // A tick may come late by one, and none of the rate is to be lost by it.
  const TimeNs slack_ns = 2 * options_.heartbeat_ms * kMillisecondNs;
  group.shaped = is_on && !group.shaping.Conforms(clock_.now(), slack_ns);
}

void Region::StrandTooLarge(const ModelKey& key) {
  const int64_t largest = LargestKvCacheTokens(groups_.all(), key);
  std::vector<StreamId> fits;
  for (const StreamId id : streams_.stranded()) {
    const Stream& stream = *streams_.Find(id);
    if (stream.tokens_needed <= largest && stream.key == key) fits.push_back(id);
  }
  for (const StreamId id : fits) streams_.SetStranded(id, std::nullopt);
  std::vector<StreamId> too_large;
  const FairQueue& queue = streams_.waiting(key);
  for (auto size = queue.by_size().upper_bound({largest, UINT64_MAX});
       size != queue.by_size().end(); ++size) {
    too_large.push_back(queue.at(size->second).stream);
  }
  for (const StreamId id : too_large) Strand(id, *streams_.Find(id));
}

void Region::Place(StreamId id, Group& group) {
  Bind(id, group, streams_.TakeSequence());
  Stream& stream = *streams_.Find(id);
  stream.group_deadline = stream.deadline;
  if (stream.deadline && flights_.SharersOf(id) != nullptr) *stream.group_deadline += kShareSlackNs;
  actions_.emplace_back(SubmitAction{group.leader(),
                                     group.epoch,
                                     {.id = stream.sequence,
                                      .prompt = stream.request.prompt,
                                      .params = stream.request.params,
                                      .generated = stream.tokens,
                                      .prompt_logprobs_given = stream.prompt_logprobs_left == 0,
                                      .stream = id,
                                      .resumable = stream.request.resumable,
                                      .service_class = ClassInGroup(stream),
                                      .deadline_ms = DeadlineLeftMs(stream, clock_.now()),
                                      .tenant = stream.grant.tenant}});
  Shape(group, stream.tokens_needed);
  Record record = RecordOf(RecordKind::kPlaced, id, stream);
  record.group = group.number;
  recorder_.Note(std::move(record));
}

void Region::Strand(StreamId id, Stream& stream) {
  if (!stream.stranded_since) streams_.SetStranded(id, clock_.now());
  if (options_.resume_timeout_ms == 0) FailStream(id, StrandedError(stream));
}

void Region::FailStranded() {
  const TimeNs latest = clock_.now() - options_.resume_timeout_ms * kMillisecondNs;
  std::vector<StreamId> stranded;
  for (const StreamId id : streams_.stranded()) {
    if (*streams_.Find(id)->stranded_since <= latest) stranded.push_back(id);
  }
  for (const StreamId id : stranded) FailStream(id, StrandedError(*streams_.Find(id)));
}

StreamError Region::StrandedError(const Stream& stream) const {
  const int64_t largest = LargestKvCacheTokens(groups_.all(), stream.key);
  // It was not too large when it came: whoever comes again is told, or finds a group.
  const std::string lack = largest == 0
                               ? Str("no group of workers with ", stream.key)
                               : Str("no group with ", stream.tokens_needed, " tokens of KV cache");
  return MakeStreamError(BusyReason::kGroupLost,
                         Str(stream.parked ? stream.parked->why : std::string("its group was lost"),
                             "; ", lack, " came within ", options_.resume_timeout_ms, " ms"));
}

}  // namespace shoal::core
