// One thread that makes a link, waits until it is lost, and makes the next. Dialling cannot be cut
// short, so the thread owns all it touches and may outlive the session.

#include "worker/rank/serving/coordinator_session.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "transport/base/error.h"

namespace shoal::rank {
namespace {

// A link takes at most a second to say goodbye to the coordinator.
constexpr std::chrono::milliseconds kCloseWait{1500};

}  // namespace

struct CoordinatorSession::Shared {
  rpc::LinkOptions options;

  std::mutex callbacks_mutex;  // Guards the two below; held during a callback.
  SessionCallbacks callbacks;
  bool closed = false;

  std::mutex mutex;  // Guards the rest.
  std::condition_variable changed;
  State state = State::kJoining;
  std::shared_ptr<rpc::CoordinatorLink> link;  // Calls under way hold it too.
  std::optional<Error> failure;
  Membership membership;    // The newest.
  bool introduced = false;  // The last link's that was lost.
  uint64_t progress = 0;
  bool pending = false;
  std::optional<std::string> lost;  // Why, until its thread has seen it.
  bool closing = false;
  bool finished = false;  // The thread has nothing left to do.

  // What a link calls. `shared` is alive as long as its thread, which owns the link.
  template <typename F>
  void Call(F&& function) {
    const std::lock_guard lock(callbacks_mutex);
    if (!closed) function(callbacks);
  }

  rpc::LinkCallbacks MakeCallbacks() {
    rpc::LinkCallbacks made;
    made.on_submit = [this](SequenceRequest request) {
      Call([&](SessionCallbacks& to) {
        if (to.link.on_submit) to.link.on_submit(std::move(request));
      });
    };
    made.on_release = [this](uint64_t id) {
      Call([&](SessionCallbacks& to) {
        if (to.link.on_release) to.link.on_release(id);
      });
    };
    made.on_cancel = [this](uint64_t id) {
      Call([&](SessionCallbacks& to) {
        if (to.link.on_cancel) to.link.on_cancel(id);
      });
    };
    made.on_stop = [this] {
      Call([](SessionCallbacks& to) {
        if (to.link.on_stop) to.link.on_stop();
      });
    };
    made.on_lost = [this](const std::string& why) {
      {
        const std::lock_guard lock(mutex);
        lost = why;
      }
      changed.notify_all();
    };
    return made;
  }

  // Until the link is lost. Result: false if the session ends.
  bool HoldLink(std::shared_ptr<rpc::CoordinatorLink> made) {
    Membership begun;
    {
      const std::lock_guard lock(mutex);
      link = made;
      membership = {membership.number + 1, made->outcome(), introduced};
      begun = membership;
      link->SetProgress(progress, pending);
    }
    // Before the coordinator can ask anything, and before others see that the rank has joined.
    Call([&](SessionCallbacks& to) {
      if (to.on_joined) to.on_joined(begun);
    });
    std::unique_lock lock(mutex);
    if (!closing) {
      made->Start();  // What the coordinator asks can be answered from here on.
      state = State::kJoined;
      changed.notify_all();
      changed.wait(lock, [this] { return lost.has_value() || closing; });
    }
    link.reset();
    introduced = made->introduced();
    if (!closing) state = State::kJoining;
    const std::optional<std::string> why = std::exchange(lost, std::nullopt);
    const bool go_on = !closing;
    lock.unlock();
    if (go_on) {
      LOG(WARNING) << why.value_or("") << "; joining again";
      Call([&](SessionCallbacks& to) {
        if (to.link.on_lost) to.link.on_lost(why.value_or(""));
      });
    }
    made.reset();  // Says goodbye; may take a moment, so not under the lock.
    return go_on;
  }
};

CoordinatorSession::CoordinatorSession(rpc::LinkOptions options, SessionCallbacks callbacks)
    : shared_(std::make_shared<Shared>()) {
  shared_->options = std::move(options);
  shared_->callbacks = std::move(callbacks);
  thread_ = std::thread([shared = shared_] { Run(shared); });
}

void CoordinatorSession::Run(const std::shared_ptr<Shared>& shared) {
  bool go_on = true;
  rpc::LinkOptions options = shared->options;
  while (go_on) {
    try {
      auto link = std::make_shared<rpc::CoordinatorLink>(options, shared->MakeCallbacks());
      const RegisterOutcome& outcome = link->outcome();
      options.rank.last_epoch = outcome.epoch;
      options.join_timeout_ms = std::max(shared->options.join_timeout_ms, outcome.orphan_grace_ms);
      go_on = shared->HoldLink(std::move(link));
    } catch (const Error& error) {  // Handed to ThrowFailure's caller, on another thread.
      const std::lock_guard lock(shared->mutex);
      shared->failure = error;
      shared->state = State::kFailed;
      go_on = false;
    }
  }
  const std::lock_guard lock(shared->mutex);
  shared->finished = true;
  shared->changed.notify_all();
}

bool CoordinatorSession::Close() {
  if (!thread_.joinable()) return true;
  {
    const std::lock_guard lock(shared_->callbacks_mutex);
    shared_->closed = true;
    shared_->callbacks = {};
  }
  std::unique_lock lock(shared_->mutex);
  shared_->closing = true;
  shared_->changed.notify_all();
  const bool dialling = shared_->state == State::kJoining;
  const bool finished =
      shared_->changed.wait_for(lock, dialling ? std::chrono::milliseconds(0) : kCloseWait,
                                [this] { return shared_->finished; });
  lock.unlock();
  if (finished) {
    thread_.join();
  } else {
    thread_.detach();
  }
  return finished;
}

CoordinatorSession::State CoordinatorSession::state() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->state;
}

CoordinatorSession::State CoordinatorSession::WaitWhileJoining(int64_t milliseconds) const {
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait_for(lock, std::chrono::milliseconds(milliseconds),
                            [this] { return shared_->state != State::kJoining; });
  return shared_->state;
}

void CoordinatorSession::ThrowFailure() const {
  const std::lock_guard lock(shared_->mutex);
  SHOAL_CHECK(shared_->failure.has_value(), "the session has not failed");
  throw Error(*shared_->failure);
}

std::shared_ptr<rpc::CoordinatorLink> CoordinatorSession::LinkOf(uint64_t membership) const {
  const std::lock_guard lock(shared_->mutex);
  return membership == shared_->membership.number ? shared_->link : nullptr;
}

void CoordinatorSession::Introduce(std::vector<HeldStream> held, std::vector<SequenceUpdate> again,
                                   const SchedulerStats& stats, uint64_t membership) {
  const auto link = LinkOf(membership);
  if (link != nullptr) link->Introduce(std::move(held), std::move(again), stats);
}

void CoordinatorSession::QueueUpdates(std::vector<SequenceUpdate> updates,
                                      const SchedulerStats& stats, PrefixReport prefixes,
                                      uint64_t membership) {
  const auto link = LinkOf(membership);
  if (link != nullptr) link->QueueUpdates(std::move(updates), stats, std::move(prefixes));
}

void CoordinatorSession::Drain(uint64_t membership) {
  const auto link = LinkOf(membership);
  if (link != nullptr) link->Drain();
}

void CoordinatorSession::ReportFault(LossCause cause, const std::string& message,
                                     int64_t timeout_ms) {
  std::shared_ptr<rpc::CoordinatorLink> link;
  {
    const std::lock_guard lock(shared_->mutex);
    link = shared_->link;
  }
  if (link != nullptr) link->ReportFault(cause, message, timeout_ms);
}

uint64_t CoordinatorSession::progress() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->progress;
}

int64_t CoordinatorSession::drain_timeout_ms() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->membership.outcome.drain_timeout_ms;
}

void CoordinatorSession::SendQueued() noexcept {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->link != nullptr) shared_->link->SendQueued();
}

void CoordinatorSession::SetProgress(uint64_t counter, bool pending) {
  const std::lock_guard lock(shared_->mutex);
  shared_->progress = counter;
  shared_->pending = pending;
  if (shared_->link != nullptr) shared_->link->SetProgress(counter, pending);
}

}  // namespace shoal::rank
