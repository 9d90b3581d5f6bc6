// Canaries: a group takes requests only after one has come back with the bits that it must have,
// and goes on only while others do.

#include <string>

#include "coordinator/core/groups/canary.h"
#include "coordinator/core/groups/versions.h"
#include "coordinator/core/region.h"
#include "transport/base/check.h"

namespace shoal::core {

void Region::StartCanary(Group& group) {
  group.canary_due = false;
  group.canary_wait_ms = 0;
  Canary& canary =
      group.canary.emplace(streams_.TakeSequence(), options_.canary_prompt, group.shape());
  // Before all that waits in its leader.
  canary.request.params.priority = kPriorityMin;
  group.sequences.insert(canary.sequence);
  actions_.emplace_back(SubmitAction{
      group.leader(),
      group.epoch,
      {.id = canary.sequence, .prompt = canary.request.prompt, .params = canary.request.params}});
}

void Region::StartDueCanary(Group& group) {
  if (!group.canary_due || !group.HasPlace()) return;
  StartCanary(group);
  // What it does not take up is free again.
  Dispatch(ModelKey(group.key));
}

void Region::TickCanary(Group& group) {
  if (group.state != GroupState::kReady) return StartDueCanary(group);
  if (!group.has_canary()) {
    const TimeNs interval = options_.canary_interval_ms * kMillisecondNs;
    const bool due = interval > 0 && clock_.now() - group.canary_time >= interval;
    group.canary_due = group.canary_due || due;
    return StartDueCanary(group);
  }
  if (group.CanaryWaits() || group.ranks_away > 0) return;
  group.canary_wait_ms += options_.heartbeat_ms;
  if (group.canary_wait_ms <= options_.join_timeout_ms) return;
  LoseGroup(group, LossCause::kStuck,
            Str("its canary has not come back within ", options_.join_timeout_ms, " ms"));
}

void Region::ApplyCanary(Group& group, SequenceUpdate update) {
  group.canary->Trim(update);
  group.canary->Apply(update);
  if (update.finish == FinishReason::kNone) return;
  if (update.finish == FinishReason::kCancelled && update.no_room) {
    // Its leader may be full with what it has of another coordinator: it gets the next free place.
    group.Forget(update.id);
    group.canary_due = group.wants_canary();
    return;
  }
  std::string fault = group.canary->FindBadEnd(update);
  if (!fault.empty()) {
    return LoseGroup(group,
                     update.finish == FinishReason::kNumericError ? LossCause::kWrongAnswer
                                                                  : LossCause::kProtocol,
                     fault);
  }
  const std::string digest = group.canary->Digest();
  fault = FindDigestFault(group.key, digest, groups_.ExpectedDigest(group.key));
  if (!fault.empty()) return LoseGroup(group, LossCause::kWrongAnswer, fault);
  group.Forget(update.id);
  group.canary_time = clock_.now();
  // It is ready already, or has been dismissed meanwhile.
  if (group.state != GroupState::kCanary) return;
  groups_.SetReady(group, digest);
  recorder_.Note({.kind = RecordKind::kGroupReady, .group = group.number, .detail = group.Name()});
  actions_.emplace_back(GroupReadyAction{group.number, group.Name(), group.key,
                                         *ChooseVersion(groups_.models(), group.key.name)});
}

}  // namespace shoal::core
