// Groups that leave on purpose: their streams go elsewhere or come to their end.

#include <set>
#include <string_view>

#include "coordinator/core/groups/versions.h"
#include "coordinator/core/region.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

// How long a dismissed group may take to be gone; then its connections are closed.
constexpr int64_t kLeaveMs = 5'000;

}  // namespace

std::string Region::Drain(uint64_t number) {
  Group* group = groups_.Find(number);
  if (group == nullptr) return Str("there is no group ", number);
  switch (group->state) {
    case GroupState::kReady:
      BeginDrain(*group);
      return "";
    case GroupState::kDraining:
    case GroupState::kStopping:
      return Str("group ", number, " is about to end already");
    default:
      return Str("group ", number, " is ", ToString(group->state),
                 ": only one that is ready can be drained");
  }
}

bool Region::DrainRequested(ConnectionId connection, uint64_t epoch) {
  Group* group = FindLed(connection, epoch);
  if (group == nullptr) return false;
  const bool ends = group->state == GroupState::kDraining || group->state == GroupState::kStopping;
  if (!ends) BeginDrain(*group);
  return true;
}

void Region::BeginDrain(Group& group) {
  groups_.SetEnding(group, GroupState::kDraining);
  group.drain_until = clock_.now() + options_.drain_timeout_ms * kMillisecondNs;
  MoveStreams(group, "is drained");
  DismissDrained(group);
  // What waited for it alone is stranded.
  Dispatch(ModelKey(group.key));
}

// Where others have room. Whatever waits has been given what fits it before.
void Region::MoveStreams(Group& group, std::string_view why) {
  if (!group.has_leader()) return;
  EndOverdue();
  for (const SequenceId sequence : std::set<SequenceId>(group.sequences)) {
    const std::optional<StreamId> id = streams_.FindId(sequence);
    if (!id) continue;
    const Stream& stream = *streams_.Find(*id);
    const auto other = ChooseGroupFor(*id, stream);
    if (!other) continue;
    // Until its leader has confirmed the end it takes up room there; what it still brings of it
    // counts for nothing.
    actions_.emplace_back(CancelAction{group.leader(), group.epoch, sequence});
    Record record = RecordOf(RecordKind::kParked, *id, stream);
    record.group = group.number;
    record.reason = BusyReason::kDraining;
    record.detail = Str(group.Name(), " ", why);
    streams_.Park(*id, {LossCause::kDrained, record.detail});
    recorder_.Note(std::move(record));
    Place(*id, groups_.at(*other));
  }
}

void Region::TickDraining(Group& group) {
  const bool late = clock_.now() >= *group.drain_until;
  if (group.state == GroupState::kStopping) {
    if (late) LoseGroup(group, LossCause::kDrained, "it was dismissed and did not leave");
    return;
  }
  MoveStreams(group, "is drained");
  if (late) {
    for (const SequenceId sequence : std::set<SequenceId>(group.sequences)) {
      const std::optional<StreamId> id = streams_.FindId(sequence);
      if (id) streams_.Park(*id, {LossCause::kDrained, Str(group.Name(), " was drained")});
      group.Forget(sequence);
    }
  }
  DismissDrained(group);
  if (late) Dispatch(ModelKey(group.key));
}

void Region::DismissDrained(Group& group) {
  if (group.state != GroupState::kDraining || !group.sequences.empty()) return;
  groups_.SetEnding(group, GroupState::kStopping);
  group.drain_until = clock_.now() + kLeaveMs * kMillisecondNs;
  if (group.has_leader()) actions_.emplace_back(StopAction{group.leader(), group.epoch});
}

}  // namespace shoal::core
