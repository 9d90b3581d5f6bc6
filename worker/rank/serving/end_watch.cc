// A rule without threads, and the thread that applies it.

#include "worker/rank/serving/end_watch.h"

#include <chrono>

namespace shoal::rank {
namespace {

constexpr std::chrono::milliseconds kLookEvery{50};

// Keeps in `due` when the condition will have been true for so long; never, while it is false.
bool HasBeenFor(bool is, int64_t milliseconds, TimeNs now, Deadline& due) {
  if (!is) due = {};
  if (is && due.at == Deadline().at) due.at = now + milliseconds * kMillisecondNs;
  return now >= due.at;
}

}  // namespace

EndRule::Verdict EndRule::Judge(bool session_failed, StopRequest stop, uint64_t progress,
                                TimeNs now) {
  if (stop == StopRequest::kDrain && progress != progress_) told_due_ = {};
  progress_ = progress;
  const bool told_to_end = stop != StopRequest::kNone;
  if (HasBeenFor(session_failed, kSessionMs, now, failed_due_)) return Verdict::kSessionFailed;
  if (HasBeenFor(told_to_end, kStepMs, now, told_due_)) return Verdict::kToldToEnd;
  return Verdict::kGoOn;
}

EndWatch::EndWatch(comm::Communicator& group, const CoordinatorSession& session,
                   const std::atomic<StopRequest>& stop, const Clock& clock)
    : group_(group), session_(session), stop_(stop), clock_(clock), thread_([this] { Watch(); }) {}

EndWatch::~EndWatch() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void EndWatch::Watch() {
  EndRule rule;
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kLookEvery, [this] { return closing_; })) {
    const EndRule::Verdict verdict =
        rule.Judge(session_.state() == CoordinatorSession::State::kFailed,
                   stop_.load(std::memory_order_relaxed), session_.progress(), clock_.now());
    if (verdict == EndRule::Verdict::kGoOn) continue;
    verdict_.store(verdict);
    group_.Abort();
    return;
  }
}

}  // namespace shoal::rank
