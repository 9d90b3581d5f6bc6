// The word is at namespace scope because a signal handler is given nothing else to write to.

#include "worker/rank/serving/stop_signal.h"

#include <csignal>

namespace shoal::rank {
namespace {

std::atomic<StopRequest> stop_requested{StopRequest::kNone};
static_assert(std::atomic<StopRequest>::is_always_lock_free, "a signal handler may not lock");

extern "C" void RequestStop(int signal) {
  const bool again = stop_requested.load(std::memory_order_relaxed) != StopRequest::kNone;
  stop_requested.store(signal == SIGINT || again ? StopRequest::kNow : StopRequest::kDrain,
                       std::memory_order_relaxed);
}

}  // namespace

StopSignal::StopSignal() {
  struct sigaction action = {};
  action.sa_handler = RequestStop;
  action.sa_flags =
      SA_RESTART;  // Nothing waits without a deadline, so nothing needs to be cut short.
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  // A closed connection is an error of the call that writes to it, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
}

const std::atomic<StopRequest>& StopSignal::request() const { return stop_requested; }

}  // namespace shoal::rank
