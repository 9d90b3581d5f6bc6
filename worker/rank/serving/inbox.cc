// Bounded by refusing prompts, which are large, before refusing anything else.

#include "worker/rank/serving/inbox.h"

#include <chrono>
#include <string>
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

SessionCallbacks InboxCallbacks(Inbox& inbox) {
  SessionCallbacks callbacks;
  rpc::LinkCallbacks& link = callbacks.link;
  link.on_submit = [&inbox](SequenceRequest request) {
    const uint64_t id = request.id;
    inbox.Push({InboxEvent::Kind::kSubmit, id, std::move(request)});
  };
  link.on_cancel = [&inbox](uint64_t id) {
    inbox.Push({.kind = InboxEvent::Kind::kCancel, .id = id});
  };
  link.on_release = [&inbox](uint64_t id) {
    inbox.Push({.kind = InboxEvent::Kind::kRelease, .id = id});
  };
  link.on_stop = [&inbox] { inbox.Push({.kind = InboxEvent::Kind::kStop}); };
  link.on_lost = [&inbox](const std::string&) { inbox.Push({.kind = InboxEvent::Kind::kLost}); };
  callbacks.on_joined = [&inbox](const Membership& membership) {
    InboxEvent event;
    event.kind = InboxEvent::Kind::kJoined;
    event.membership = membership;
    inbox.Push(std::move(event));
  };
  return callbacks;
}

}  // namespace shoal::rank
