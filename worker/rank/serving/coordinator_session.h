#pragma once

// A rank's membership at the coordinator for as long as the process lives: joins, and joins again
// when the coordinator was lost, without ever making the step loop wait.

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/rpc/coordinator_link.h"

namespace shoal::rank {

// Threading: all methods from any thread.
class CoordinatorSession {
 public:
  enum class State : uint8_t { kJoining, kJoined, kFailed };

  // Starts to join and returns. The callbacks are those of rpc::LinkCallbacks; on_lost is called
  // each time the coordinator is lost, before the next join can bring anything. They must stay
  // callable until this object is gone.
  CoordinatorSession(rpc::LinkOptions options, rpc::LinkCallbacks callbacks);
  ~CoordinatorSession() { Close(); }

  CoordinatorSession(const CoordinatorSession&) = delete;
  CoordinatorSession& operator=(const CoordinatorSession&) = delete;

  State state() const;
  // Returns when the state is no longer kJoining, or after that time.
  State WaitWhileJoining(int64_t milliseconds) const;
  // Throws the error that ended joining. Precondition: state() is kFailed.
  [[noreturn]] void ThrowFailure() const;

  // As CoordinatorLink's. `losses`: how many on_lost calls the sender knew of; updates from before
  // a loss are dropped, since the next coordinator never heard of their sequences.
  void QueueUpdates(std::vector<SequenceUpdate> updates, const SchedulerStats& stats,
                    uint64_t losses);
  void SendQueued() noexcept;
  void SetProgress(uint64_t counter, bool pending);

  // Says goodbye; no callback runs after it. Result: false if it is still dialling. That attempt
  // goes on in its thread, and the process should end with _exit, because ordinary exit destroys
  // what the thread still uses.
  bool Close();

 private:
  struct Shared;
  static void Run(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;  // Also its thread's, which may outlive the session.
  std::thread thread_;
};

}  // namespace shoal::rank
