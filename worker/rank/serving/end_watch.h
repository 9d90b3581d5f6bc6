#pragma once

// Ends a group whose step does not end: a rank that waits for another one inside a step sees
// neither a signal nor that the coordinator has given the group up, so a thread beside the steps
// looks.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "parallel/comm/communicator.h"
#include "transport/base/clock.h"
#include "worker/rank/serving/coordinator_session.h"
#include "worker/rank/serving/stop_signal.h"

namespace shoal::rank {

// How long a rank that has to end may still wait for the end of its step.
class EndRule {
 public:
  enum class Verdict : uint8_t {
    kGoOn,
    kSessionFailed,  // The coordinator does not take this rank any more.
    kToldToEnd,      // By a signal.
  };

  // Time for the other ranks to hear the same from the coordinator, and for the leader's last plan,
  // so that all of them report the cause and not that one of them ended the group.
  static constexpr int64_t kSessionMs = 250;
  // Time for the step under way and the leader's last plan. A group that is to be drained first has
  // as long for each of its steps.
  static constexpr int64_t kStepMs = 5'000;

  // `progress`: a number that changes whenever the rank gets on.
  Verdict Judge(bool session_failed, StopRequest stop, uint64_t progress, TimeNs now);

 private:
  Deadline failed_due_;
  Deadline told_due_;
  uint64_t progress_ = 0;
};

// Looks at the session and the signal for as long as it lives, on a thread of its own, and aborts
// the group by the rule above. What it is given must outlive it.
class EndWatch {
 public:
  EndWatch(comm::Communicator& group, const CoordinatorSession& session,
           const std::atomic<StopRequest>& stop, const Clock& clock);
  ~EndWatch();
  EndWatch(const EndWatch&) = delete;
  EndWatch& operator=(const EndWatch&) = delete;

  // Why it aborted the group; kGoOn: it did not. Thread-safe.
  EndRule::Verdict verdict() const { return verdict_.load(); }

 private:
  void Watch();

  comm::Communicator& group_;
  const CoordinatorSession& session_;
  const std::atomic<StopRequest>& stop_;
  const Clock& clock_;
  std::atomic<EndRule::Verdict> verdict_{EndRule::Verdict::kGoOn};
  std::mutex mutex_;  // Guards closing_.
  bool closing_ = false;
  std::condition_variable changed_;
  std::thread thread_;
};

}  // namespace shoal::rank
