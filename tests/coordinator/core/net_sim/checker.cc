#include "tests/coordinator/core/net_sim/checker.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "tests/coordinator/core/net_sim/world/leader.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {

void Checker::NewRegion() {
  members_.clear();
  draining_.clear();
  known_.clear();
  placed_.clear();
  ready_at_.clear();
  status_ = {};
  overload_.NewRegion();
  order_.NewRegion();
  outliers_.NewRegion();
}

std::optional<uint64_t> Checker::FindNumber(ConnectionId leader, uint64_t epoch) const {
  for (const auto& [number, member] : members_) {
    if (member.leader == leader && member.epoch == epoch) return number;
  }
  return std::nullopt;
}

// Epochs rise, whoever gives them out; only a group that is still there keeps its own.
void Checker::Registered(ConnectionId connection, const std::shared_ptr<FakeGroup>& group,
                         const RankRegistration& rank, const RegisterOutcome& outcome) {
  if (outcome.kind != RegisterOutcome::Kind::kAccepted) return;
  Member& member = members_[outcome.group];
  if (member.group != group || member.epoch != outcome.epoch) {
    if (outcome.epoch <= epoch_max_) {
      context_.Violation(Str("epoch ", outcome.epoch, " came after ", epoch_max_));
    }
    epoch_max_ = std::max(epoch_max_, outcome.epoch);
    member = {group, outcome.epoch, 0, false};
    outliers_.Forget(outcome.group);
  }
  if (outcome.continued) {
    ++context_.counters.rejoined;
    // It may not have heard of its epoch.
    if (rank.last_epoch > outcome.epoch) {
      context_.Violation(
          Str("a rank of epoch ", rank.last_epoch, " goes on with epoch ", outcome.epoch));
    }
  }
  uint64_t& newest = epochs_[rank.group_id];
  if (outcome.epoch < newest) {
    context_.Violation(
        Str("group ", rank.group_id, " went back from epoch ", newest, " to ", outcome.epoch));
  }
  newest = outcome.epoch;
  if (rank.rank == 0) member.leader = connection;
}

namespace {

// A leader gives a sequence up without a reason, which is its group's fault.
bool IsGivenUp(const SequenceUpdate& update) {
  return update.finish == FinishReason::kCancelled && !update.no_room && update.detail.empty();
}

// Requests that wait, here and by what groups say.
double CountWaiting(const Region& region) {
  int64_t waiting = std::ranges::count_if(region.streams(),
                                          [](const auto& entry) { return !entry.second.group; });
  for (const auto& [number, group] : region.groups()) {
    if (group.state == GroupState::kReady && group.stats) waiting += group.stats->requests_waiting;
  }
  return static_cast<double>(waiting);
}

}  // namespace

void Checker::Updates(const std::vector<SequenceUpdate>& updates, const Region& region) {
  outcomes_.clear();
  for (const SequenceUpdate& update : updates) {
    const bool cancelled = update.finish == FinishReason::kCancelled;
    if (update.finish == FinishReason::kNone || (cancelled && !IsGivenUp(update))) continue;
    const bool well = !cancelled && update.finish != FinishReason::kNumericError;
    for (const auto& [id, stream] : region.streams()) {
      if (stream.group && stream.sequence == update.id) {
        outcomes_.push_back({well, !overload_.MayBeOverdue(id)});
      }
    }
  }
}

void Checker::NoteOutcome(uint64_t number, bool well, bool sure) {
  overload_.breaker().Ended(well, sure);
  const auto member = members_.find(number);
  if (member != members_.end()) outliers_.Ended(number, *member->second.group, well, sure);
}

void Checker::Updated(ConnectionId leader, uint64_t epoch,
                      const std::vector<SequenceUpdate>& updates, bool there) {
  const std::optional<uint64_t> number = FindNumber(leader, epoch);
  for (const Outcome& outcome : outcomes_) {
    if (number) NoteOutcome(*number, outcome.well, outcome.sure && there);
  }
  if (there) return Apply(updates);
  // What came before the update that was not right was taken.
  for (const SequenceUpdate& update : updates) {
    const auto placed = placed_.find(update.id);
    if (placed == placed_.end()) continue;
    known_[placed->second].prompt_logprobs_perhaps =
        static_cast<size_t>(update.prompt_logprobs_before) + update.prompt_logprobs.size();
  }
}

void Checker::Ticks(const Region& region) {
  outliers_.Ticks();
  waiting_ = CountWaiting(region);
  placed_count_ = 0;
}

void Checker::Ticked(const Region& region) {
  const double after = CountWaiting(region);
  if (!context_.swarm.overload.guard.breakers.empty()) {
    overload_.breaker().Ticked(std::min(waiting_, after),
                               std::max(waiting_, after) + static_cast<double>(placed_count_),
                               region.status().breakers);
  }
  for (const auto& [number, member] : members_) outliers_.Ticked(number, *member.group, region);
  outliers_.SettleTick(region);
}

void Checker::Apply(const std::vector<SequenceUpdate>& updates) {
  for (const SequenceUpdate& update : updates) {
    const auto placed = placed_.find(update.id);
    if (placed == placed_.end()) continue;
    Known& known = known_[placed->second];
    const bool is_cancelled = update.finish == FinishReason::kCancelled;
    // What is given up brings nothing any more.
    if (!is_cancelled) {
      known.prompt_logprobs =
          std::max(known.prompt_logprobs, static_cast<size_t>(update.prompt_logprobs_before) +
                                              update.prompt_logprobs.size());
    }
    if (update.finish == FinishReason::kNone) continue;
    if (is_cancelled && update.no_room) --known.groups_had;
    if (IsGivenUp(update)) ++known.groups_lost;
    if (known.place && known.place->sequence == update.id) known.place.reset();
    placed_.erase(placed);
  }
}

void Checker::HandsOver(const HeldStream& held, const Region& region) {
  const SequenceRequest& request = held.request;
  const bool is_known =
      region.streams().contains(request.stream) || region.ended().contains(request.stream);
  // What came before the group's part of it may be lost, and must be known.
  const bool lacks = (request.params.top_logprobs >= 0 && !request.generated.empty()) ||
                     (request.params.prompt_logprobs && request.prompt_logprobs_given);
  const ClientStream* stream = clients_.Find(request.stream);
  // The coordinator before may have cancelled what its client had left alone.
  const int64_t grace_ns =
      (context_.swarm.orphan_grace_ms - context_.swarm.heartbeat_ms) * kMillisecondNs;
  const bool is_wanted = stream != nullptr && !stream->over &&
                         (stream->attached || context_.loop.now() - stream->away_since < grace_ns);
  const bool was_cancelled = ever_cancelled_.contains(request.id);
  if (is_wanted && !is_known && !lacks && !was_cancelled) must_take_.insert(request.stream);
}

void Checker::HandedOver(const HeldStream& held, ConnectionId leader, uint64_t epoch,
                         const Region& region) {
  const SequenceRequest& request = held.request;
  // A further part has the sequence alone.
  const std::optional<uint64_t> number = FindNumber(leader, epoch);
  // It counts if its stream is here, and has not ended.
  if (number && held.all.finish != FinishReason::kNone) {
    NoteOutcome(*number, held.all.finish != FinishReason::kNumericError, /*sure=*/false);
  }
  if (request.stream == StreamId{}) return Apply({held.all});
  const bool must_take = must_take_.erase(request.stream) > 0;
  const auto stream = region.streams().find(request.stream);
  if (!number) return;
  const bool is_known = stream != region.streams().end() || region.ended().contains(request.stream);
  if (must_take && !is_known && !draining_.contains({leader, epoch})) {
    context_.Violation(Str("stream ", request.stream, " was handed over, and is not taken"));
  }
  if (held.all.finish != FinishReason::kNone) return;
  // Its end may have come already, in the last part of an earlier hand-over of the same.
  const auto ended = region.ended().find(request.stream);
  if (ended != region.ended().end() && ended->second.holder.sequence == request.id) return;
  if (stream == region.streams().end() || stream->second.sequence != request.id) {
    if (!cancelled_.contains(request.id)) {
      context_.Violation(Str("sequence ", request.id, " of stream ", request.stream,
                             " was handed over, and is neither taken nor cancelled"));
    }
    return;
  }
  Known& known = known_[request.stream];
  if (known.place && known.place->sequence != request.id) {
    context_.Violation(Str("stream ", request.stream, " was handed over as ", request.id,
                           " and still is generated as ", known.place->sequence));
  }
  ++context_.counters.adopted;
  overload_.Adopted(request.stream, request.tenant, request.deadline_ms);
  sequences_.emplace(request.id, request.stream);
  known.place = Place{*number, epoch, request.id};
  known.was_placed = true;
  ++known.groups_had;
  placed_[request.id] = request.stream;
  if (request.params.prompt_logprobs) {
    known.prompt_logprobs =
        static_cast<size_t>(held.all.prompt_logprobs_before) + held.all.prompt_logprobs.size();
  }
}

void Checker::Observe(const std::vector<Action>& actions, const Region& region) {
  cancelled_.clear();
  groups_lost_of_.clear();
  for (const Action& action : actions) {
    if (const auto* submit = std::get_if<SubmitAction>(&action)) {
      Observe(*submit, region);
    } else if (const auto* cancel = std::get_if<CancelAction>(&action)) {
      Observe(*cancel);
    } else if (const auto* ready = std::get_if<GroupReadyAction>(&action)) {
      Observe(*ready);
    } else if (const auto* stop = std::get_if<StopAction>(&action)) {
      Observe(*stop);
    } else if (const auto* lost = std::get_if<GroupLostAction>(&action)) {
      Observe(*lost);
    } else if (const auto* journal = std::get_if<JournalAction>(&action)) {
      Observe(*journal, region);
    }
  }
}

void Checker::Observe(const SubmitAction& submit, const Region& region) {
  const SequenceRequest& request = submit.request;
  const auto [known, fresh] = sequences_.emplace(request.id, request.stream);
  if (known->second != request.stream) {
    return context_.Violation(Str("sequence ", request.id, " is of two streams"));
  }
  const std::optional<uint64_t> number = FindNumber(submit.leader, submit.epoch);
  // What is lost in the same event was asked in vain.
  if (!number) {
    if (region.groups().empty() || !fresh) return;
    return context_.Violation(
        Str("sequence ", request.id, " is for epoch ", submit.epoch, ", which no group has"));
  }
  // A group that is dismissed while its leader is away gives up its streams, and hears of it later.
  for (const auto& [index, group] : region.groups()) {
    if (group.state == GroupState::kStopping && !group.has_leader()) DisplaceEpoch(group.epoch);
  }
  const Member& member = members_.at(*number);
  if (request.stream == StreamId{}) {
    if (member.ready) ++context_.counters.canaries;
    return;
  }
  ObserveStream(submit, *number, member, region);
}

void Checker::ObserveStream(const SubmitAction& submit, uint64_t number, const Member& member,
                            const Region& region) {
  const SequenceRequest& request = submit.request;
  const ClientStream* stream = clients_.Find(request.stream);
  if (stream == nullptr) return context_.Violation(Str("nobody asked for ", request.stream));
  Known& known = known_[request.stream];
  const bool again =
      known.place && known.place->sequence == request.id && known.place->epoch == submit.epoch;
  if (known.place && !again) {
    context_.Violation(Str("stream ", request.stream, " is generated twice: as ",
                           known.place->sequence, " and as ", request.id));
  }
  if (!again && (!member.ready || draining_.contains({submit.leader, submit.epoch}))) {
    context_.Violation(Str("stream ", request.stream, " is for ", member.group->Name(),
                           member.ready ? ", which is to end" : ", which is not ready"));
  }
  if (KeyOf(member.group->shape()) != stream->key) {
    context_.Violation(Str("stream ", request.stream, " of ", stream->key, " is for a group of ",
                           KeyOf(member.group->shape())));
  }
  const auto& tokens = stream->twin.tokens;
  if (!again && (request.generated.size() != known.tokens || known.tokens > tokens.size() ||
                 !std::equal(request.generated.begin(), request.generated.end(), tokens.begin()))) {
    context_.Violation(Str("stream ", request.stream, " goes on after ", request.generated.size(),
                           " tokens, ", known.tokens, " are known"));
  }
  if (!again && request.prompt_logprobs_given &&
      known.prompt_logprobs_perhaps == stream->twin.prompt_logprobs.size()) {
    known.prompt_logprobs = known.prompt_logprobs_perhaps;
  }
  const bool given = known.prompt_logprobs == stream->twin.prompt_logprobs.size();
  if (!again && request.prompt_logprobs_given != given) {
    context_.Violation(Str("stream ", request.stream, ": the prompt's log-probabilities are ",
                           given ? "known and asked for" : "not known and not asked for"));
  }
  if (request.prompt != stream->granted.prompt || request.params != stream->granted.params ||
      request.resumable != stream->granted.resumable) {
    context_.Violation(Str("stream ", request.stream, " is another request now"));
  }
  if (!request.generated.empty() && !again) ++context_.counters.continued;
  if (!again) {
    ++known.groups_had;
    ++placed_count_;
    order_.Placed(request.stream, member.group->shape().kv_cache_tokens);
    outliers_.Given(number, region);
  }
  overload_.Submitted(request, *stream, again, clients_);
  known.place = Place{number, submit.epoch, request.id};
  known.was_placed = true;
  placed_[request.id] = request.stream;
}

void Checker::Observe(const CancelAction& cancel) {
  cancelled_.insert(cancel.sequence);
  ever_cancelled_.insert(cancel.sequence);
  const auto placed = placed_.find(cancel.sequence);
  if (placed == placed_.end()) return;
  const auto known = known_.find(placed->second);
  if (known != known_.end() && known->second.place &&
      known->second.place->sequence == cancel.sequence) {
    known->second.place.reset();
  }
  placed_.erase(placed);
}

// A group that is dismissed has nothing to say any more.
void Checker::Observe(const StopAction& stop) {
  const std::optional<uint64_t> number = FindNumber(stop.leader, stop.epoch);
  if (number) Displace(*number, /*is_lost=*/false);
}

void Checker::Displace(uint64_t number, bool is_lost) {
  for (auto& [id, known] : known_) {
    if (!known.place || known.place->group != number) continue;
    placed_.erase(known.place->sequence);
    known.place.reset();
    if (is_lost) ++known.groups_lost;
  }
}

void Checker::DisplaceEpoch(uint64_t epoch) {
  for (auto& [id, known] : known_) {
    if (!known.place || known.place->epoch != epoch) continue;
    placed_.erase(known.place->sequence);
    known.place.reset();
  }
}

// What it does not know was lost on its way to it: the region may give it to another group.
void Checker::Introduced(ConnectionId leader, uint64_t epoch, const Region& region) {
  const std::optional<uint64_t> number = FindNumber(leader, epoch);
  if (!number) return;
  const auto& live = members_.at(*number).group->leader().live();
  for (auto& [id, known] : known_) {
    if (!known.place || known.place->group != *number) continue;
    const SequenceId sequence = known.place->sequence;
    const auto stream = region.streams().find(id);
    if (stream != region.streams().end() && stream->second.sequence == sequence) continue;
    if (live.contains(sequence) && !live.at(sequence).cancelled) continue;
    placed_.erase(sequence);
    known.place.reset();
  }
}

void Checker::Observe(const GroupReadyAction& ready) {
  const auto member = members_.find(ready.group);
  if (member == members_.end()) {
    return context_.Violation(Str("group ", ready.group, " is ready, and has never joined"));
  }
  member->second.ready = true;
  if (member->second.group->leader().unsound) {
    context_.Violation(Str(member->second.group->Name(), " computes other bits, and is ready"));
  }
}

void Checker::Observe(const GroupLostAction& lost) {
  const auto member = members_.find(lost.group);
  if (member == members_.end()) {
    return context_.Violation(Str("group ", lost.group, " is lost, and was not there"));
  }
  FakeGroup& group = *member->second.group;
  context_.Log("the region gives ", group.Name(), " up: ", ToString(lost.cause), ": ", lost.why);
  ++context_.counters.groups_lost;
  if (lost.cause == LossCause::kDrained) ++context_.counters.drained;
  if (!group.blamed() && context_.swarm.link.misdeliver == 0) {
    context_.Violation(Str(group.Name(), " was given up without a reason: ", lost.why));
  }
  Displace(lost.group, lost.cause != LossCause::kDrained);
  members_.erase(member);
}

// A stream whose client is away and may come back is kept, unless it would have failed.
void Checker::CheckForgotten(StreamId id, const Known& known, const Region& region) {
  const ClientStream* stream = clients_.Find(id);
  if (stream == nullptr || stream->attached || region.ended().contains(id)) return;
  if (stream->over && stream->wanted) return;  // Its client has ended it.
  // It may have given its place to a better one.
  const bool displaced =
      !known.was_placed && FindNoReason(*stream, {BusyReason::kQueueFull}).empty();
  if (displaced) overload_.Displaced(*stream, /*sure=*/false);
  if (displaced || stream->over || context_.swarm.rate(Fault::kRefuse) > 0) return;
  const TimeNs since = std::min(stream->away_since, known.idle_since.value_or(INT64_MAX));
  const int64_t idle_ms = (context_.loop.now() - since) / kMillisecondNs;
  if (idle_ms + 2 * context_.swarm.heartbeat_ms >= context_.swarm.orphan_grace_ms) return;
  if (FindNoReason(*stream, {BusyReason::kRequestSuspect}).empty()) return;
  if (FindNoReason(*stream, {BusyReason::kDeadlineExceeded}).empty()) return;
  const std::string fault = FindNoReason(*stream, {BusyReason::kGroupLost});
  if (fault.empty()) return;
  context_.Violation(
      Str("stream ", id, " is forgotten ", idle_ms, " ms after its client went, but ", fault));
}

void Checker::Observe(const JournalAction& journal, const Region& region) {
  if (std::holds_alternative<JournalEnd>(journal.what)) {
    const auto known = known_.find(journal.stream);
    if (known == known_.end()) return;
    if (known->second.place) placed_.erase(known->second.place->sequence);
    groups_lost_of_[journal.stream] = known->second.groups_lost;
    CheckForgotten(journal.stream, known->second, region);
    const ClientStream* stream = clients_.Find(journal.stream);
    const bool has_worked = known->second.groups_had > 0 && stream != nullptr;
    overload_.Ended(
        journal.stream, clients_.attached().contains(journal.stream),
        has_worked ? std::ssize(stream->request.prompt) + static_cast<int64_t>(known->second.tokens)
                   : 0);
    known_.erase(known);
    return;
  }
  Known& known = known_[journal.stream];
  const auto* tokens = std::get_if<JournalTokens>(&journal.what);
  if (tokens != nullptr) known.tokens += tokens->tokens.size();
}

void Checker::NoteReady(const Region& region) {
  for (const auto& [number, group] : region.groups()) {
    if (group.state != GroupState::kReady) continue;
    ready_at_[group.key][group.shape().kv_cache_tokens] = context_.loop.now();
  }
}

void Checker::Check(const Region& region) {
  NoteReady(region);
  const std::string broken = region.FindBrokenInvariant();
  if (!broken.empty()) context_.Violation(broken);
  for (const StreamId id : clients_.attached()) {
    known_[id].idle_since.reset();
    if (!region.streams().contains(id) && !IsShared(id, region)) {
      context_.Violation(Str("stream ", id, " is not known any more, and has had no end"));
    }
  }
  overload_.Check(region, clients_);
  order_.Check(region, overload_.policy());
  outliers_.Settle(region);
}

// Whether somebody else's stream is computed for it, too.
bool Checker::IsShared(StreamId id, const Region& region) const {
  const ClientStream& reader = *clients_.Find(id);
  return reader.request.shares && std::ranges::any_of(region.streams(), [&](const auto& entry) {
           const ClientStream* stream = clients_.Find(entry.first);
           return stream != nullptr && stream->AsksAs(reader);
         });
}

// What is counted only grows, and what is told is what there is.
void Checker::CheckStatus(const Region& region) {
  const RegionStatus status = region.status();
  if (status.streams_live != std::ssize(region.streams())) {
    context_.Violation(Str("the status has ", status.streams_live, " streams, there are ",
                           region.streams().size()));
  }
  const bool grows = status.requests_total >= status_.requests_total &&
                     status.group_losses_total >= status_.group_losses_total &&
                     status.streams_adopted_total >= status_.streams_adopted_total &&
                     status.stall_seconds_sum >= status_.stall_seconds_sum &&
                     status.totals.steps_total >= status_.totals.steps_total;
  if (!grows) context_.Violation("a counter of the status went back");
  status_ = status;
}

void Checker::CheckIdle(const Region& region) {
  if (++ticks_ % 16 == 0) CheckStatus(region);
  const int64_t slack_ms = 1'000;
  for (const auto& [id, stream] : region.streams()) {
    std::optional<TimeNs>& since = known_[id].idle_since;
    if (clients_.HasReader(id)) {
      since.reset();
    } else if (!since) {
      since = context_.loop.now();
    } else if (context_.loop.now() - *since >
               (context_.swarm.orphan_grace_ms + slack_ms) * kMillisecondNs) {
      context_.Violation(Str("stream ", id, " has had no listener for longer than the grace"));
    }
  }
}

int64_t Checker::CountNew(const ModelKey& key) const {
  return std::ranges::count_if(known_, [&](const auto& entry) {
    const ClientStream* stream = clients_.Find(entry.first);
    return !entry.second.was_placed && stream != nullptr && stream->key == key;
  });
}

std::string Checker::FindNoReason(const ClientStream& stream, const StreamError& error) const {
  const auto ended = std::ranges::find_if(groups_lost_of_, [&](const auto& entry) {
    const ClientStream* other = clients_.Find(entry.first);
    return entry.first == stream.id || (other != nullptr && other->AsksAs(stream));
  });
  const int32_t lost = ended == groups_lost_of_.end() ? 0 : ended->second;
  switch (error.reason) {
    case BusyReason::kQueueFull: {
      const int64_t waiting = CountNew(stream.key);
      return waiting >= context_.swarm.queue_requests_max ? ""
                                                          : Str("only ", waiting, " new ones wait");
    }
    case BusyReason::kRequestSuspect:
      return lost >= 3 ? "" : Str("it lost only ", lost, " groups");
    case BusyReason::kGroupLost:
    case BusyReason::kNoGroup: {
      const auto key = ready_at_.find(stream.key);
      TimeNs last = 0;
      if (key != ready_at_.end()) {
        for (const auto& [kv_cache_tokens, at] : key->second) {
          if (kv_cache_tokens >= stream.tokens_needed) last = std::max(last, at);
        }
      }
      const int64_t without_ms = (context_.loop.now() - last) / kMillisecondNs;
      const int64_t slack_ms = context_.swarm.heartbeat_ms;
      if (context_.swarm.resume_timeout_ms == 0) return "";
      return without_ms + slack_ms >= context_.swarm.resume_timeout_ms
                 ? ""
                 : Str("there was a group for it ", without_ms, " ms ago");
    }
    case BusyReason::kRefused:
      if (context_.swarm.rate(Fault::kRefuse) == 0) return "no leader refused it";
      return error.message.ends_with(kDisliked) ? "" : "another leader would have had room for it";
    case BusyReason::kDeadlineExceeded:
      return overload_.FindNoReason(stream, error);
    default:
      return "nothing could be the reason";
  }
}

}  // namespace shoal::core::net_sim
