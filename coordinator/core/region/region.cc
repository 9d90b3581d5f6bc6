// What ranks do, and the passing of time.

#include "coordinator/core/region.h"

#include <algorithm>
#include <set>
#include <utility>

#include "coordinator/core/groups/routing.h"
#include "coordinator/core/invariants.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

// With the default heartbeat_ms, once a second.
constexpr int64_t kTicksPerCheck = 10;

}  // namespace

Region::Region(RegionOptions options, const Clock& clock, std::function<uint64_t()> random)
    : options_(std::move(options)),
      clock_(clock),
      groups_(options_),
      health_(options_, clock),
      streams_(std::move(random), options_.boot, options_.groups_per_stream_max) {
  SHOAL_CHECK(!options_.canary_prompt.empty());
}

RegisterOutcome Region::Register(ConnectionId connection, const RankRegistration& rank) {
  if (stopping_) return {RegisterOutcome::Kind::kRetry, "this coordinator is stopping"};
  RegisterOutcome outcome = groups_.Register(connection, rank);
  outcome.orphan_grace_ms = options_.orphan_grace_ms;
  outcome.drain_timeout_ms = options_.drain_timeout_ms;
  if (outcome.kind == RegisterOutcome::Kind::kAccepted) {
    Group& group = groups_.at(outcome.group);
    if (group.complete()) StartCanary(group);
  }
  return outcome;
}

Group* Region::FindGroup(ConnectionId connection, uint64_t epoch) {
  Group* group = groups_.FindByConnection(connection);
  return group != nullptr && group->epoch == epoch ? group : nullptr;
}

bool Region::Heartbeat(ConnectionId connection, uint64_t epoch, uint64_t progress, bool pending) {
  if (FindGroup(connection, epoch) == nullptr) return false;
  health_.Heartbeat(connection, progress, pending);
  return true;
}

void Region::Disconnected(ConnectionId connection, const std::string& why) {
  Group* group = groups_.FindByConnection(connection);
  if (group == nullptr) return;
  const auto count = std::count_if(group->ranks.begin(), group->ranks.end(),
                                   [](const auto& rank) { return rank.has_value(); });
  if (group->state == GroupState::kStopping && count > 1) {
    // The ranks of a dismissed group end one by one; closing on the others could overtake the
    // leader's own word to them.
    groups_.RemoveRank(connection);
    return;
  }
  LoseGroup(*group, LossCause::kRankDied, Str(Name(group->FindRank(connection)->info), ": ", why));
}

void Region::LoseGroup(Group& group, LossCause cause, const std::string& why) {
  const std::string message = Str(group.Name(), " was lost: ", why);
  if (group.state != GroupState::kStopping) {
    ++counts_.group_losses_total;
    ++counts_.group_losses[static_cast<size_t>(cause)];
    actions_.emplace_back(GroupLostAction{group.number, cause, message});
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
  for (const auto& rank : group.ranks) {
    if (rank) actions_.emplace_back(CloseAction{rank->connection, Str(group.Name(), " is out")});
  }
}

void Region::Tick() {
  for (const Health::Loss& loss : health_.Tick(groups_.all())) {
    LoseGroup(groups_.at(loss.group), loss.cause, loss.why);
  }
  FailStranded();
  if (++ticks_total_ % kTicksPerCheck != 0) return;
  const std::string broken = FindBrokenInvariant();
  SHOAL_CHECK(broken.empty(), broken);
}

void Region::Stop() {
  if (stopping_) return;
  stopping_ = true;
  while (!streams_.all().empty()) {
    FailStream(streams_.all().begin()->first,
               MakeStreamError(BusyReason::kDraining, "this coordinator is stopping"));
  }
  for (const auto& [number, group] : GroupMap(groups_.all())) {
    if (group.ranks[0].has_value()) {
      groups_.SetStopping(groups_.at(number));
      actions_.emplace_back(StopAction{group.leader(), group.epoch});
    } else {
      // Without a leader there is nobody to dismiss.
      RemoveGroup(number, "the coordinator is stopping");
    }
  }
}

std::vector<Action> Region::TakeActions() { return std::exchange(actions_, {}); }

}  // namespace shoal::core
