// Where streams are: with a group, or waiting for one.

#include <algorithm>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "coordinator/core/groups/routing.h"
#include "coordinator/core/region.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

// At least 1, so that it is not taken for none.
int64_t DeadlineLeftMs(const Stream& stream, TimeNs now) {
  if (!stream.deadline) return 0;
  return std::max<int64_t>(1, (*stream.deadline - now) / kMillisecondNs);
}

}  // namespace

void Region::LoseStreamsGroup(StreamId id, Parked why) {
  Stream& stream = *streams_.Find(id);
  Record record = RecordOf(RecordKind::kParked, id, stream);
  record.group = stream.group;
  record.detail = why.why;
  recorder_.Note(std::move(record));
  // One that is lost is not blamed when it is started anew: it has a canary to show that it is
  // well.
  if (stream.group && groups_.Find(*stream.group) != nullptr) {
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

std::optional<uint64_t> Region::ChooseGroupFor(StreamId id, const Stream& stream) const {
  return router_.Choose({.key = stream.key,
                         .tokens = stream.tokens_needed,
                         .on_trial = stream.on_trial(),
                         .stream = id,
                         .session = stream.request.terms.session,
                         .prompt = stream.request.prompt,
                         .cache_salt = stream.request.params.cache_salt,
                         .may_share = !stream.request.params.prompt_logprobs},
                        groups_.all(), guard_, clock_.now());
}

void Region::Dispatch(const ModelKey& key) {
  const int64_t largest = LargestKvCacheTokens(groups_.all(), key);
  // One pass in order, of a copy, because what is served leaves the queue: a request passes one
  // whose turn is before its own only where that one does not fit.
  for (const Turn turn : std::set<Turn>(streams_.waiting(key).turns())) {
    const StreamId id = streams_.waiting(key).at(turn);
    Stream& stream = *streams_.Find(id);
    if (stream.tokens_needed > largest) {
      Strand(id, stream);
    } else {
      stream.stranded_since.reset();
      const auto number = ChooseGroupFor(id, stream);
      if (number) Place(id, groups_.at(*number));
    }
  }
}

void Region::Place(StreamId id, Group& group) {
  Bind(id, group, streams_.TakeSequence());
  const Stream& stream = *streams_.Find(id);
  actions_.emplace_back(SubmitAction{group.leader(),
                                     group.epoch,
                                     {.id = stream.sequence,
                                      .prompt = stream.request.prompt,
                                      .params = stream.request.params,
                                      .generated = stream.tokens,
                                      .prompt_logprobs_given = stream.prompt_logprobs_left == 0,
                                      .stream = id,
                                      .resumable = stream.request.resumable,
                                      .service_class = stream.grant.service_class,
                                      .deadline_ms = DeadlineLeftMs(stream, clock_.now()),
                                      .tenant = stream.grant.tenant}});
  Record record = RecordOf(RecordKind::kPlaced, id, stream);
  record.group = group.number;
  recorder_.Note(std::move(record));
}

void Region::Strand(StreamId id, Stream& stream) {
  if (!stream.stranded_since) stream.stranded_since = clock_.now();
  if (options_.resume_timeout_ms == 0) FailStream(id, StrandedError(stream));
}

void Region::FailStranded() {
  const TimeNs latest = clock_.now() - options_.resume_timeout_ms * kMillisecondNs;
  std::vector<StreamId> stranded;
  for (const auto& [key, queue] : streams_.waiting()) {
    for (const Turn& turn : queue.turns()) {
      const auto since = streams_.Find(queue.at(turn))->stranded_since;
      if (since && *since <= latest) stranded.push_back(queue.at(turn));
    }
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
