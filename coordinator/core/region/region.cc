// What ranks do, and the passing of time.

#include "coordinator/core/region.h"

#include <algorithm>
#include <set>
#include <utility>

#include "coordinator/core/groups/versions.h"
#include "coordinator/core/invariants.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

// With the default heartbeat_ms, once a second.
constexpr int64_t kTicksPerCheck = 10;

FairRules MakeFairRules(const TenantsPolicy& policy, const RegionOptions& options) {
  FairRules rules{.fair = options.protections.admission};
  for (size_t i = 0; i < rules.floor_shares.size(); ++i) {
    rules.floor_shares[i] = policy.classes[i].floor_share;
  }
  return rules;
}

}  // namespace

RegionState::RegionState(RegionOptions options, const Clock& clock,
                         std::function<uint64_t()> random)
    : options_(std::move(options)),
      clock_(clock),
      groups_(options_),
      health_(options_, clock),
      streams_(std::move(random), options_.boot, options_.groups_per_stream_max),
      tenants_(options_.tenants, options_.protections.edge_limit),
      guard_(options_.guard, options_.protections.routing),
      router_(options_.routing_policy, options_.protections.routing),
      recorder_(clock, options_.unix_ms_at_zero) {}

Region::Region(RegionOptions options, const Clock& clock, std::function<uint64_t()> random)
    : RegionState(std::move(options), clock, std::move(random)) {
  SHOAL_CHECK(!options_.canary_prompt.empty());
  streams_.Configure(MakeFairRules(tenants_.policy(), options_));
}

// ---- Ranks that come and go ----

RegisterOutcome Region::Register(ConnectionId connection, const RankRegistration& rank) {
  if (stopping_) return {RegisterOutcome::Kind::kRetry, "this coordinator is stopping"};
  const std::optional<ConnectionId> old = groups_.FindConnection(rank);
  RegisterOutcome outcome = groups_.Register(connection, rank);
  if (outcome.kind != RegisterOutcome::Kind::kAccepted) return outcome;
  outcome.orphan_grace_ms = options_.orphan_grace_ms;
  outcome.drain_timeout_ms = options_.drain_timeout_ms;
  Group& group = groups_.at(outcome.group);
  if (old) actions_.emplace_back(CloseAction{*old, Str(Name(rank), " has another connection")});
  if (rank.rank == 0) Introduce(group, outcome.continued);
  if (!outcome.continued && group.state == GroupState::kForming && group.complete()) {
    group.state = GroupState::kCanary;
    StartCanary(group);
  }
  if (outcome.continued) {
    StartDueCanary(group);
    Dispatch(ModelKey(group.key));
  }
  return outcome;
}

void Region::Introduce(Group& group, bool continued) {
  // Whatever its leader may have sequences of was given out before now, here or elsewhere.
  group.ignored_up_to = streams_.last_sequence();
  if (!continued) return;
  if (group.state == GroupState::kStopping) {
    actions_.emplace_back(StopAction{group.leader(), group.epoch});
    return;
  }
  group.rejoin = Rejoin{group.sequences, clock_.now()};
  for (const SequenceId sequence : group.sequences) {
    const bool canary = group.canary && group.canary->sequence == sequence;
    if (canary || streams_.FindId(sequence)) continue;
    // Its cancel may have been lost with the old connection.
    actions_.emplace_back(CancelAction{group.leader(), group.epoch, sequence});
  }
}

void Region::SettleRejoin(Group& group) {
  if (!group.rejoin) return;
  const Rejoin rejoin = *std::exchange(group.rejoin, std::nullopt);
  for (const SequenceId sequence : rejoin.unconfirmed) {
    if (group.canary && group.canary->sequence == sequence) {
      group.canary_due = group.wants_canary();
    }
    group.Forget(sequence);
    const std::optional<StreamId> id = streams_.FindId(sequence);
    if (id) {
      streams_.Park(*id, {LossCause::kRankDied, Str(group.Name(), " did not know of it any more")});
    }
  }
  StartDueCanary(group);
  DismissDrained(group);
  Dispatch(ModelKey(group.key));
}

Group* Region::FindGroup(ConnectionId connection, uint64_t epoch) {
  Group* group = groups_.FindByConnection(connection);
  return group != nullptr && group->epoch == epoch ? group : nullptr;
}

Group* Region::FindLed(ConnectionId connection, uint64_t epoch) {
  Group* group = FindGroup(connection, epoch);
  return group != nullptr && group->FindRank(connection)->info.rank == 0 ? group : nullptr;
}

bool Region::Heartbeat(ConnectionId connection, uint64_t epoch, uint64_t progress, bool pending) {
  if (FindGroup(connection, epoch) == nullptr) return false;
  health_.Heartbeat(connection, progress, pending);
  return true;
}

bool Region::Fault(ConnectionId connection, uint64_t epoch, LossCause cause,
                   const std::string& message) {
  Group* group = FindGroup(connection, epoch);
  if (group == nullptr) return false;
  // A rank knows the others by their numbers alone; whoever looks for the one that it means needs
  // host and process.
  LoseGroup(*group, cause,
            Str(Name(group->FindRank(connection)->info), ": ", message,
                group->ranks.size() > 1 ? Str("; its ranks were ", group->RankNames()) : ""));
  return true;
}

void Region::Disconnected(ConnectionId connection, const std::string& why) {
  Group* group = groups_.FindByConnection(connection);
  if (group == nullptr) return;
  const auto count = std::count_if(group->ranks.begin(), group->ranks.end(), [](const auto& rank) {
    return rank.has_value() && !rank->away;
  });
  if (count > 1 && group->state == GroupState::kStopping) {
    // The ranks of a dismissed group end one by one; closing on the others could overtake the
    // leader's own word to them.
    groups_.RemoveRank(connection);
  } else if (group->state != GroupState::kStopping && options_.rejoin_grace_ms > 0) {
    // The connection alone may have broken, or those of all ranks at once. That their processes
    // have ended others say, sooner: whoever started them (GroupEnded), or a rank (Fault).
    groups_.SetAway(connection, why);
  } else {
    LoseGroup(*group, LossCause::kRankDied,
              Str(Name(group->FindRank(connection)->info), ": ", why));
  }
}

bool Region::GroupEnded(uint64_t number, LossCause cause, const std::string& why) {
  Group* group = groups_.Find(number);
  if (group == nullptr) return false;
  LoseGroup(*group, cause, why);
  return true;
}

void Region::LoseGroup(Group& group, LossCause cause, const std::string& why) {
  std::string message = Str(group.Name(), " was lost: ", why);
  if (group.state != GroupState::kStopping) {
    ++counts_.group_losses_total;
    ++counts_.group_losses[static_cast<size_t>(cause)];
    actions_.emplace_back(GroupLostAction{group.number, cause, message});
  } else if (group.drain_until) {
    message = Str(group.Name(), " was drained");
    actions_.emplace_back(GroupLostAction{group.number, LossCause::kDrained, message});
  }
  NoteLoss(group.number, message);
  if (group.state == GroupState::kStopping) {
    recorder_.Note({.kind = RecordKind::kDrained, .group = group.number, .detail = message});
  } else {
    recorder_.Note({.kind = RecordKind::kGroupLost,
                    .group = group.number,
                    .detail = Str(ToString(cause), ": ", message)});
  }
  const std::set<SequenceId> sequences = group.sequences;
  const ModelKey key = group.key;
  RemoveGroup(group.number, why);
  for (const SequenceId sequence : sequences) {
    const std::optional<StreamId> id = streams_.FindId(sequence);
    if (id) LoseStreamsGroup(*id, {cause, message});
  }
  Dispatch(key);
}

void Region::RemoveGroup(uint64_t number, const std::string& why) {
  const Group group = groups_.Remove(number, why);
  guard_.Forget(number);
  waits_.Forget(number);
  for (const auto& rank : group.ranks) {
    if (!rank || rank->away) continue;
    actions_.emplace_back(CloseAction{rank->connection, Str(group.Name(), " is out")});
  }
}

// ---- Time and the end ----

void Region::Tick() {
  EndOverdue();
  for (const Health::Loss& loss : health_.Tick(groups_.all())) {
    LoseGroup(groups_.at(loss.group), loss.cause, loss.why);
  }
  std::vector<uint64_t> numbers;
  for (const auto& [number, group] : groups_.all()) numbers.push_back(number);
  for (const uint64_t number : numbers) TickGroup(groups_.at(number));
  TickGuard();
  if (tenants_.policy().shape_tokens_per_second > 0) DispatchAll();
  FailStranded();
  ForgetStreams();
  if (++ticks_total_ % kTicksPerCheck != 0) return;
  const std::string broken = FindBrokenInvariant();
  SHOAL_CHECK(broken.empty(), broken);
}

void Region::TickGroup(Group& group) {
  const TimeNs now = clock_.now();
  if (group.rejoin && now - group.rejoin->since > options_.join_timeout_ms * kMillisecondNs) {
    return LoseGroup(group, LossCause::kStuck,
                     Str("its leader came back and has not said within ", options_.join_timeout_ms,
                         " ms which sequences it has"));
  }
  if (group.full_for_ticks * options_.heartbeat_ms > options_.join_timeout_ms) {
    return LoseGroup(
        group, LossCause::kStuck,
        Str("its leader has nothing and has had no room for ", options_.join_timeout_ms, " ms"));
  }
  const bool was_full = std::exchange(group.full, false);
  const bool was_quiet = std::exchange(group.quiet, health_.IsQuiet(group));
  if (group.drain_until) return TickDraining(group);
  const ModelKey key = group.key;
  TickCanary(group);
  if (was_full || was_quiet) Dispatch(key);
}

void Region::TickGuard() {
  const TimeNs now = clock_.now();
  const auto& unanswered = streams_.unanswered();
  const TimeNs oldest =
      unanswered.empty() ? now : streams_.Find(unanswered.begin()->second)->arrival_time;
  guard_.Tick({.groups = groups_.all(),
               .requests_waiting = static_cast<int64_t>(streams_.waiting_count()),
               .queue_wait_ms = (now - oldest) / kMillisecondNs,
               .now = now});
  FollowGuard();
}

void Region::FollowGuard() {
  std::set<ModelKey> more;
  for (const auto& [number, unused] : groups_.all()) {
    Group& group = groups_.at(number);
    const std::optional<size_t> before = std::exchange(group.given_max, guard_.GivenMax(number));
    // No limit is the highest one.
    if (group.given_max.value_or(SIZE_MAX) > before.value_or(SIZE_MAX)) more.insert(group.key);
  }
  for (Record& record : guard_.TakeRecords()) recorder_.Note(std::move(record));
  for (const uint64_t number : guard_.TakeSlow()) {
    Group* group = groups_.Find(number);
    if (group != nullptr && group->given_max) MoveStreams(*group, "is slow");
  }
  for (const ModelKey& key : more) Dispatch(key);
}

void Region::Stop() {
  if (stopping_) return;
  stopping_ = true;
  while (!streams_.all().empty()) {
    FailStream(streams_.all().begin()->first,
               MakeStreamError(BusyReason::kDraining, "this coordinator is stopping"));
  }
  ended_.Clear();
  for (const auto& [number, group] : GroupMap(groups_.all())) {
    if (group.has_leader()) {
      groups_.SetEnding(groups_.at(number), GroupState::kStopping);
      actions_.emplace_back(StopAction{group.leader(), group.epoch});
    } else {
      // Without a leader there is nobody to dismiss.
      RemoveGroup(number, "the coordinator is stopping");
    }
  }
}

void Region::SetTenants(std::shared_ptr<const TenantsPolicy> policy) {
  tenants_.Configure(std::move(policy), clock_.now());
  streams_.Configure(MakeFairRules(tenants_.policy(), options_));
  DispatchAll();
}

void Region::SetGuardRules(GuardRules rules) {
  guard_.Configure(std::move(rules));
  FollowGuard();
}

std::vector<Action> Region::TakeActions() { return std::exchange(actions_, {}); }

}  // namespace shoal::core
