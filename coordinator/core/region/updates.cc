// What leaders say came of their sequences.

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "coordinator/core/region.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

bool IsCanary(const Group& group, const SequenceUpdate& update) {
  return group.canary && group.canary->sequence == update.id;
}

size_t StallBucket(double seconds) {
  const auto bound = std::ranges::lower_bound(kStallSeconds, seconds);
  return static_cast<size_t>(bound - std::begin(kStallSeconds));
}

}  // namespace

bool Region::Update(ConnectionId connection, uint64_t epoch, std::vector<SequenceUpdate> updates,
                    const SchedulerStats& stats, const PrefixReport& prefixes) {
  Group* group = FindLed(connection, epoch);
  if (group == nullptr) return false;
  EndOverdue();
  const uint64_t number = group->number;
  const ModelKey key = group->key;
  groups_.ApplyStats(*group, stats);
  group->load.Learn(stats, clock_.now());
  group->prefixes.Apply(prefixes);
  waits_.Learn(*group, stats);
  for (SequenceUpdate& update : updates) {
    if (group->rejoin) group->rejoin->unconfirmed.erase(update.id);
    group->NoteRoom(update);
    if (IgnoreUpdate(*group, update)) continue;
    const std::optional<UpdateFault> fault = FindFault(*group, update);
    if (fault) {
      // A leader that answers what it was not asked cannot be trusted with the rest.
      LoseGroup(*group, fault->cause,
                Str(Name(group->ranks[0]->info), " broke the protocol: ", fault->what));
      return true;
    }
    if (IsCanary(*group, update)) {
      ApplyCanary(*group, std::move(update));
      if (groups_.Find(number) == nullptr) return true;
    } else {
      ApplyUpdate(*group, std::move(update));
    }
  }
  if (guard_.has_records()) FollowGuard();
  StartDueCanary(*group);
  DismissDrained(*group);
  Dispatch(key);
  return true;
}

bool Region::IgnoreUpdate(const Group& group, const SequenceUpdate& update) {
  if (group.sequences.contains(update.id)) return false;
  if (group.state == GroupState::kStopping) return true;  // Its streams are elsewhere.
  if (update.id > group.ignored_up_to) return false;
  // A leader that is back tells also of what it holds for this coordinator.
  if (ended_.HasHolder({group.number, group.epoch, update.id})) return true;
  if (update.finish == FinishReason::kNone) {
    actions_.emplace_back(CancelAction{group.leader(), group.epoch, update.id});
  } else {
    actions_.emplace_back(ReleaseAction{group.leader(), group.epoch, update.id});
  }
  return true;
}

std::optional<UpdateFault> Region::FindFault(const Group& group, const SequenceUpdate& update) {
  std::string fault = group.FindFault(update);
  if (!fault.empty()) return UpdateFault{.what = std::move(fault)};
  const int32_t vocab_size = group.shape().vocab_size;
  if (IsCanary(group, update)) return group.canary->FindFault(update, vocab_size);
  const std::optional<StreamId> id = streams_.FindId(update.id);
  return id ? streams_.Find(*id)->FindFault(update, vocab_size) : std::nullopt;
}

void Region::ApplyUpdate(Group& group, SequenceUpdate update) {
  const bool ends = update.finish != FinishReason::kNone;
  const std::optional<StreamId> found = streams_.FindId(update.id);
  if (ends) group.Forget(update.id);
  if (!found) {  // Cancelled here, or taken elsewhere: nobody listens.
    if (ends) Release({group.number, group.epoch, update.id});
    return;
  }
  const StreamId id = *found;
  NotePreemptions(id, update);
  if (update.finish == FinishReason::kCancelled) return ApplyRefusal(group, id, update);
  Stream& stream = *streams_.Find(id);
  stream.Trim(update);
  if (!ends && update.tokens.empty() && update.prompt_logprobs.empty()) return;
  // Only the first group knows what an undisturbed run would have found in its cache.
  if (stream.cached_told) update.cached_tokens = 0;
  stream.cached_told = stream.cached_told || !update.tokens.empty();
  if (ends) update.resumes = stream.resumes;
  stream.Apply(update);
  if (!ends) group.load.SetWork(update.id, stream.work_left());
  if (stream.request.resumable || stream.request.shares) stream.Keep(update);
  if (!update.tokens.empty() && std::ssize(stream.tokens) == std::ssize(update.tokens)) {
    NoteFirstToken(id, stream);
  }
  if (ends || !update.tokens.empty()) NoteToken(stream);
  if (!update.tokens.empty()) {
    actions_.emplace_back(JournalAction{id, JournalTokens{update.tokens}});
  }
  if (!stream.detached_since) {
    flights_.ForEachReader(id, [&](StreamId reader) {
      actions_.emplace_back(DeliverAction{reader, update});
    });
  }
  if (!ends) return;
  if (update.finish == FinishReason::kNumericError) {
    guard_.NoteError(group.number, groups_.all(), clock_.now());
  } else {
    guard_.NoteSuccess(group.number, groups_.all(), clock_.now());
  }
  FinishStream(group, id, std::move(update));
}

void Region::ApplyRefusal(const Group& group, StreamId id, const SequenceUpdate& update) {
  Release({group.number, group.epoch, update.id});
  if (update.no_room) {
    streams_.Park(id, {std::nullopt, Str(group.Name(), " had no room for it")});
  } else if (update.detail == kDeadlineOver) {
    Expire(id);
  } else if (update.detail.empty()) {
    LoseStreamsGroup(id, {LossCause::kRankDied, Str(group.Name(), " gave the request up")});
  } else {
    FailStream(id,
               MakeStreamError(BusyReason::kRefused, Str("refused by the group: ", update.detail)));
  }
}

void Region::NotePreemptions(StreamId id, SequenceUpdate& update) {
  // Whoever listens is told the same whatever others were preferred to it.
  const int32_t preemptions = std::exchange(update.preemptions, 0);
  Stream& stream = *streams_.Find(id);
  // A leader that is back tells again of earlier ones.
  if (preemptions <= stream.preemptions) return;
  stream.preemptions = preemptions;
  Record record = RecordOf(RecordKind::kPreempted, id, stream);
  record.group = stream.group;
  record.figures = {{"preemptions", static_cast<double>(preemptions), "its group's updates"}};
  recorder_.Note(std::move(record));
}

void Region::NoteFirstToken(StreamId id, const Stream& stream) {
  streams_.NoteAnswered(id);
  const TimeNs waited = clock_.now() - stream.arrival_time;
  if (stream.predicted) {
    waits_.NoteOutcome(*stream.predicted, stream.grant.service_class, waited);
  }
  Record record = RecordOf(RecordKind::kFirstToken, id, stream);
  record.group = stream.group;
  record.figures = {
      {"waited_ms", static_cast<double>(waited) / kMillisecondNs, "the region's clock"}};
  recorder_.Note(std::move(record));
}

void Region::NoteToken(Stream& stream) {
  const TimeNs now = clock_.now();
  if (std::exchange(stream.stalls, false)) {
    const double seconds =
        static_cast<double>(now - stream.token_time) / static_cast<double>(kSecondNs);
    ++counts_.stalls[StallBucket(seconds)];
    counts_.stall_seconds_sum += seconds;
  }
  stream.token_time = now;
}

}  // namespace shoal::core
