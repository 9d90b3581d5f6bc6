#pragma once

// A rank's membership at the coordinator for as long as the process lives: joins, and joins again
// when the coordinator was lost, without ever making the step loop wait.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/generation/prefix_hash.h"
#include "transport/base/generation/sequence_request.h"
#include "transport/base/group.h"
#include "transport/rpc/coordinator_link.h"

namespace shoal::rank {

// One stretch of time during which a coordinator has the group.
struct Membership {
  uint64_t number = 0;  // Of this session's, from 1; 0 is none.
  RegisterOutcome outcome{};
  // The coordinator of the membership before this one heard its introduction to the end. If it did
  // not, and this is that coordinator, it may know some of the streams and not others.
  bool introduced_before = false;
};

struct SessionCallbacks {
  // Those of a link. on_lost ends the membership of the on_joined before it; what a link asks comes
  // between the two.
  rpc::LinkCallbacks link{};
  std::function<void(const Membership& membership)> on_joined{};
};

// Threading: all methods from any thread.
class CoordinatorSession {
 public:
  enum class State : uint8_t { kJoining, kJoined, kFailed };

  // Starts to join and returns. When the coordinator was lost it joins again, for join_timeout_ms
  // or, if that is longer, for as long as streams are held without a coordinator. The callbacks
  // must stay callable until this object is gone.
  CoordinatorSession(rpc::LinkOptions options, SessionCallbacks callbacks);
  ~CoordinatorSession() { Close(); }

  CoordinatorSession(const CoordinatorSession&) = delete;
  CoordinatorSession& operator=(const CoordinatorSession&) = delete;

  State state() const;
  // Returns when the state is no longer kJoining, or after that time.
  State WaitWhileJoining(int64_t milliseconds) const;
  // Throws the error that ended joining. Precondition: state() is kFailed.
  [[noreturn]] void ThrowFailure() const;

  // As CoordinatorLink's. `membership`: the number of the one that the caller knows of. In another
  // one nothing happens: what is meant for a coordinator that is gone is not for the next one,
  // which must be introduced first.
  void Introduce(std::vector<HeldStream> held, std::vector<SequenceUpdate> again,
                 const SchedulerStats& stats, uint64_t membership);
  void QueueUpdates(std::vector<SequenceUpdate> updates, const SchedulerStats& stats,
                    PrefixReport prefixes, uint64_t membership);
  void Drain(uint64_t membership);
  void SendQueued() noexcept;
  void SetProgress(uint64_t counter, bool pending);
  uint64_t progress() const;
  // Returns at once if no coordinator has the group.
  void ReportFault(LossCause cause, const std::string& message, int64_t timeout_ms);
  // As the last coordinator that took the group had it.
  int64_t drain_timeout_ms() const;

  // Says goodbye; no callback runs after it. Result: false if it is still dialling. That attempt
  // goes on in its thread, and the process should end with _exit, because ordinary exit destroys
  // what the thread still uses.
  bool Close();

 private:
  struct Shared;
  // The link, if `membership` is the current one.
  std::shared_ptr<rpc::CoordinatorLink> LinkOf(uint64_t membership) const;
  static void Run(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;  // Also its thread's, which may outlive the session.
  std::thread thread_;
};

}  // namespace shoal::rank
