#pragma once

// Keeps a number of groups running: starts them, sees them end, and starts them anew.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/launch/executor.h"
#include "coordinator/launch/supervise/relaunch_policy.h"
#include "transport/base/clock.h"
#include "transport/base/group.h"

namespace shoal::launch {

// One start of a group has come to its end: nothing of it is left, unless a process outlived
// SIGKILL for half a minute.
struct EndedGroup {
  uint64_t group = 0;
  GroupEnd end{};  // If `by_itself`; otherwise how this program has ended it.
  bool by_itself = false;
  bool was_ready = false;
  bool drained = false;
  bool stays_away = false;  // It is not started anew by itself.
  std::string why{};        // For people.
};

// What the region knew of a group whose processes end.
struct RegionWord {
  bool had_it = false;   // It will say that it is lost.
  bool drained = false;  // It has asked it to end.
};

struct SupervisorEvents {
  // The group's processes end, and the region may not know yet.
  std::function<RegionWord(uint64_t group, LossCause cause, const std::string& why)> on_ending;
  std::function<void(const EndedGroup& ended)> on_ended;  // May be null.
};

// Groups 0 to `groups` - 1. A group whose processes end, or that the region has lost, is ended
// whole and started anew as RelaunchPolicy says.
//
// No call waits. Threading: one thread, which lives as long as the groups are to live.
class Supervisor {
 public:
  // `relaunch`: false: nothing is started twice. A group that the region has lost is killed at once
  // if it is to serve again; where it was not ready, or stays away, it may take a while to end, so
  // that mpirun says which rank failed. `executor` and `clock` outlive it.
  Supervisor(uint64_t groups, bool relaunch, Executor& executor, const Clock& clock,
             SupervisorEvents events);
  Supervisor(const Supervisor&) = delete;
  ~Supervisor();  // Ends what is left.

  // Looks after the processes: call it every 20 ms or so. The first call starts all groups.
  void Poll();

  // What the region says. Groups with other numbers are ignored.
  void OnReady(uint64_t group, const std::vector<RankStatus>& ranks);
  void OnLost(uint64_t group, LossCause cause, const std::string& why);

  // Whether the group is one of those here.
  bool Manages(uint64_t group) const { return group < slots_.size(); }
  // Whether it has processes, be they about to end.
  bool IsThere(uint64_t group) const { return slots_.at(group).started != nullptr; }
  // The group is about to be drained: when it has ended it stays away, or is started anew.
  void ExpectDrain(uint64_t group, bool restart);
  // Of a group that is not there: it stays away, or is started now.
  void KeepAway(uint64_t group);
  void StartNow(uint64_t group);

  // From now on nothing is started, and groups that end are no failures.
  void StopStarting() { stopping_ = true; }
  // Ends all groups that are there: SIGTERM, and SIGKILL to those that are left after `grace_ms`,
  // as Poll goes on.
  void EndAll(int64_t grace_ms);
  bool all_gone() const;

  // What is known here of the groups: which are managed, those that are not there too, how often
  // they were started again, when they will be, why the last one ended.
  void Complete(RegionStatus& status) const;

 private:
  enum class Phase : uint8_t {
    kAway,     // No processes.
    kRunning,  // Its command runs.
    kLeaving,  // It is to end by itself, until `deadline`.
    kKilling,  // SIGKILL was sent, and what it takes to act is waited for, until `deadline`.
  };
  struct Slot {
    RelaunchPolicy policy;
    std::unique_ptr<StartedGroup> started;
    Phase phase = Phase::kAway;
    TimeNs phase_begin = 0;
    Deadline deadline{};
    bool kill_is_late = false;
    bool lost = false;       // The region said so, of this start.
    bool by_itself = false;  // Its command ended before anybody ended it.
    bool drains = false;     // It was asked to end,
    bool restarts = false;   // and is wanted back.
    bool loss_owed = false;  // The region is about to say that the last start is lost.
    std::string why{};       // Of this start.
    std::string last_loss{};
  };

  void Start(uint64_t group);
  void Look(uint64_t group);
  void LookAtRunning(uint64_t group);
  // Ends a start that will not serve any more.
  void EndLost(Slot& slot);
  // Ends it: `grace_ms` to do so by itself, or after SIGTERM if `terminate`.
  void Leave(Slot& slot, int64_t grace_ms, bool terminate);
  void Kill(Slot& slot);
  void TellRegion(uint64_t group, LossCause cause, const std::string& why);
  void Finish(uint64_t group);
  void NoteEnd(uint64_t group, EndedGroup ended);

  const bool relaunch_;
  Executor& executor_;
  const Clock& clock_;
  const SupervisorEvents events_;
  std::vector<Slot> slots_;
  bool stopping_ = false;
};

}  // namespace shoal::launch
