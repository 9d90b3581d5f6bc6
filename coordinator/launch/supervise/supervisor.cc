#include "coordinator/launch/supervise/supervisor.h"

#include <glog/logging.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "transport/base/check.h"

namespace shoal::launch {
namespace {

// From SIGKILL to the end of all processes; only one in an uninterruptible wait takes longer, and
// is left behind then.
constexpr int64_t kKilledMs = 2'000;
constexpr int64_t kKilledLateMs = 30'000;
// A drained group ends by itself once its last stream is gone.
constexpr int64_t kDrainedMs = 5'000;
// How long, after the loss of a group that is not started at once, mpirun may take to say which
// rank ended and why.
constexpr int64_t kNamesRankMs = 3'000;

// With the last line that was written, which of a start that failed most often says why.
std::string TextOf(const GroupEnd& end) {
  const bool says_more = end.signal == 0 && !end.last_words.empty();
  return says_more ? Str(end.Text(), ": ", end.last_words) : end.Text();
}

}  // namespace

Supervisor::Supervisor(uint64_t groups, bool relaunch, Executor& executor, const Clock& clock,
                       SupervisorEvents events)
    : relaunch_(relaunch), executor_(executor), clock_(clock), events_(std::move(events)) {
  slots_.resize(groups);
}

Supervisor::~Supervisor() = default;

void Supervisor::Poll() {
  for (uint64_t group = 0; group < slots_.size(); ++group) {
    Slot& slot = slots_[group];
    const bool was_there = slot.phase != Phase::kAway;
    if (was_there) Look(group);
    // What the region is about to say of the last start comes before the next one.
    if (slot.phase != Phase::kAway || (was_there && slot.loss_owed)) continue;
    const auto next = slot.policy.next_start();
    if (!stopping_ && next && clock_.now() >= *next) Start(group);
  }
}

void Supervisor::Start(uint64_t group) {
  Slot& slot = slots_[group];
  slot.policy.Started(clock_.now());
  slot.lost = slot.by_itself = slot.drains = slot.restarts = false;
  slot.why.clear();
  try {
    slot.started = executor_.Start(group);
  } catch (const std::exception& error) {  // As if it had ended at once: it is tried again.
    NoteEnd(group, {.group = group, .why = error.what()});
    return;
  }
  slot.phase = Phase::kRunning;
  slot.phase_begin = clock_.now();
  const int64_t restarts = slot.policy.restarts_total();
  if (restarts > 0) LOG(INFO) << "group " << group << " is started again, restart " << restarts;
}

void Supervisor::Look(uint64_t group) {
  Slot& slot = slots_[group];
  const bool ended = slot.started->HasEnded();
  const bool late = slot.deadline.Passed(clock_);
  switch (slot.phase) {
    case Phase::kAway:
      break;
    case Phase::kRunning:
      if (ended) {
        slot.by_itself = true;
        Kill(slot);
      } else {
        LookAtRunning(group);
      }
      break;
    case Phase::kLeaving:
      slot.by_itself = slot.by_itself || ended;
      if (ended || late) Kill(slot);
      break;
    case Phase::kKilling:
      break;
  }
  if (slot.phase != Phase::kKilling) return;
  if (slot.started->Kill()) {
    Finish(group);
    return;
  }
  if (slot.by_itself && !slot.lost) {
    TellRegion(group, LossCause::kRankDied, Str(slot.started->starter(), " ended"));
  }
  if (!slot.deadline.Passed(clock_)) return;
  if (slot.kill_is_late) {
    LOG(ERROR) << "group " << group << ": a process of it is left behind, alive after SIGKILL";
    Finish(group);
    return;
  }
  LOG(ERROR) << "group " << group << ": a process of it does not end after SIGKILL; waiting for it "
             << "up to " << kKilledLateMs << " ms more";
  slot.kill_is_late = true;
  slot.deadline = Deadline::After(clock_, kKilledLateMs);
}

void Supervisor::LookAtRunning(uint64_t group) {
  Slot& slot = slots_[group];
  if (stopping_ || slot.drains) return;  // It is about to end, and may.
  const int64_t timeout_ms = executor_.start_timeout_ms();
  const TimeNs age = clock_.now() - slot.phase_begin;
  if (slot.policy.ready()) {
    const std::string rank = slot.started->EndedRank();
    if (rank.empty()) return;
    slot.why = rank + " ended";
    slot.by_itself = slot.started->HasEnded();  // A moment ago it had not.
    TellRegion(group, LossCause::kRankDied, slot.why);
    EndLost(slot);
  } else if (timeout_ms > 0 && age > timeout_ms * kMillisecondNs) {
    slot.why = Str("not ready within ", timeout_ms, " ms of its start");
    TellRegion(group, LossCause::kNeverReady, slot.why);
    Leave(slot, executor_.terminate_ms(), /*terminate=*/true);
  }
}

void Supervisor::EndLost(Slot& slot) {
  if (slot.drains) {
    Leave(slot, kDrainedMs, /*terminate=*/false);
  } else if (!relaunch_ || !slot.policy.ready()) {
    Leave(slot, kNamesRankMs, /*terminate=*/false);
  } else if (executor_.terminate_ms() > 0) {
    Leave(slot, executor_.terminate_ms(), /*terminate=*/true);
  } else {
    Kill(slot);
  }
}

void Supervisor::Leave(Slot& slot, int64_t grace_ms, bool terminate) {
  if (terminate) slot.started->Terminate();
  slot.phase = Phase::kLeaving;
  slot.deadline = Deadline::After(clock_, grace_ms);
}

void Supervisor::Kill(Slot& slot) {
  slot.phase = Phase::kKilling;
  slot.kill_is_late = false;
  slot.deadline = Deadline::After(clock_, kKilledMs);
}

void Supervisor::TellRegion(uint64_t group, LossCause cause, const std::string& why) {
  Slot& slot = slots_[group];
  slot.lost = true;
  if (stopping_) return;
  const RegionWord word = events_.on_ending(group, cause, why);
  slot.loss_owed = word.had_it;
  slot.drains = slot.drains || word.drained;
}

void Supervisor::Finish(uint64_t group) {
  Slot& slot = slots_[group];
  EndedGroup ended{.group = group,
                   .end = slot.started->TakeEnd(),
                   .by_itself = slot.by_itself,
                   .was_ready = slot.policy.ready(),
                   .why = slot.why};
  if (ended.by_itself) {
    ended.why = TextOf(ended.end);
    if (!slot.why.empty()) ended.why += "; " + slot.why;
  }
  if (!slot.lost) {
    TellRegion(group, slot.drains ? LossCause::kDrained : LossCause::kRankDied, ended.why);
  }
  ended.drained = slot.drains;
  slot.started.reset();
  slot.phase = Phase::kAway;
  NoteEnd(group, ended);
}

void Supervisor::NoteEnd(uint64_t group, EndedGroup ended) {
  Slot& slot = slots_[group];
  const TimeNs now = clock_.now();
  if (ended.drained || !relaunch_) {
    slot.policy.Drained();
    if (slot.restarts) slot.policy.StartNow(now);
  } else {
    slot.policy.Ended(now);
  }
  ended.stays_away = !slot.policy.next_start();
  if (stopping_) return;
  if (ended.drained) {
    LOG(INFO) << "group " << group << " was drained and has ended"
              << (slot.restarts ? "; it is started anew" : "");
  } else {
    slot.last_loss = ended.why;
    const auto next = slot.policy.next_start();
    LOG(ERROR) << "group " << group
               << (ended.was_ready ? " has ended" : " failed before it was ready")
               << (next ? Str(" and is started again in ", (*next - now) / kMillisecondNs, " ms")
                        : std::string())
               << ": " << ended.why;
  }
  if (events_.on_ended) events_.on_ended(ended);
}

void Supervisor::OnReady(uint64_t group, const std::vector<RankStatus>& ranks) {
  if (!Manages(group) || !IsThere(group)) return;
  Slot& slot = slots_[group];
  slot.policy.Ready(clock_.now());
  for (const RankStatus& rank : ranks) slot.started->Watch(rank.rank, rank.pid);
}

void Supervisor::OnLost(uint64_t group, LossCause cause, const std::string& why) {
  if (!Manages(group)) return;
  Slot& slot = slots_[group];
  if (std::exchange(slot.loss_owed, false) || stopping_) return;
  slot.lost = true;
  if (cause == LossCause::kDrained) slot.drains = true;
  if (slot.phase != Phase::kRunning) return;
  slot.why = why;
  // Ranks end with mpirun: of what ended it this may be the first word.
  slot.by_itself = slot.started->HasEnded();
  EndLost(slot);
  Look(group);
}

void Supervisor::ExpectDrain(uint64_t group, bool restart) {
  slots_.at(group).drains = true;
  slots_.at(group).restarts = restart;
}

void Supervisor::KeepAway(uint64_t group) { slots_.at(group).policy.StayAway(); }

void Supervisor::StartNow(uint64_t group) { slots_.at(group).policy.StartNow(clock_.now()); }

void Supervisor::EndAll(int64_t grace_ms) {
  for (Slot& slot : slots_) {
    if (slot.phase == Phase::kRunning || slot.phase == Phase::kLeaving) {
      Leave(slot, grace_ms, /*terminate=*/true);
    }
  }
}

bool Supervisor::all_gone() const {
  return std::ranges::all_of(slots_, [](const Slot& slot) { return slot.started == nullptr; });
}

void Supervisor::Complete(RegionStatus& status) const {
  status.group_restarts_total = 0;
  for (uint64_t number = 0; number < slots_.size(); ++number) {
    const Slot& slot = slots_[number];
    auto found = std::ranges::find(status.groups, number, &GroupStatus::group);
    if (found == status.groups.end()) {
      GroupStatus group{.group = number, .name = Str("group ", number)};
      group.state = GroupState::kLost;
      const auto later = [&](const GroupStatus& other) { return other.group > number; };
      found = status.groups.insert(std::ranges::find_if(status.groups, later), group);
    }
    if (slot.started != nullptr && found->state == GroupState::kLost) {
      found->state = slot.phase == Phase::kRunning ? GroupState::kForming : GroupState::kDraining;
    }
    found->managed = true;
    found->restarts_total = slot.policy.restarts_total();
    status.group_restarts_total += found->restarts_total;
    if (!slot.last_loss.empty()) found->last_loss = slot.last_loss;
    if (const auto next = slot.policy.next_start(); next && slot.started == nullptr) {
      found->next_start_ms = std::max<TimeNs>(0, *next - clock_.now()) / kMillisecondNs;
    }
  }
}

}  // namespace shoal::launch
