// Bounded by refusing prompts, which are large, before refusing anything else.

#include "worker/rank/serving/inbox.h"

#include <chrono>
#include <utility>

#include "transport/base/error.h"

namespace shoal::rank {

void Inbox::Push(InboxEvent event) {
  {
    const std::lock_guard lock(mutex_);
    if (event.kind == InboxEvent::Kind::kSubmit && submits_ == submits_max_) {
      event = {.kind = InboxEvent::Kind::kRefused, .id = event.id};
    }
    if (event.kind == InboxEvent::Kind::kSubmit) ++submits_;
    if (events_.size() >= submits_max_ * (1 + kSmallEventsPerSubmit) + kSmallEventsLeast) {
      overflowed_ = true;
    } else {
      events_.push_back(std::move(event));
    }
  }
  arrived_.notify_one();
}

std::vector<InboxEvent> Inbox::Take() {
  const std::lock_guard lock(mutex_);
  if (overflowed_) {
    Throw(ErrorCode::kFailed, "the coordinator sent more than ", events_.size(),
          " events within one step");
  }
  submits_ = 0;
  return std::exchange(events_, {});
}

void Inbox::WaitFor(int64_t milliseconds) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, std::chrono::milliseconds(milliseconds),
                    [this] { return !events_.empty() || overflowed_; });
}

}  // namespace shoal::rank
