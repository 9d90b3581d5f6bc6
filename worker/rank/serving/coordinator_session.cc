// One thread that makes a link, waits until it is lost, and makes the next. Dialling cannot be cut
// short, so the thread owns all it touches and may outlive the session.

#include "worker/rank/serving/coordinator_session.h"

#include <glog/logging.h>

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
  rpc::LinkCallbacks callbacks;
  bool closed = false;

  std::mutex mutex;  // Guards the rest.
  std::condition_variable changed;
  State state = State::kJoining;
  std::shared_ptr<rpc::CoordinatorLink> link;  // Calls under way hold it too.
  std::optional<Error> failure;
  uint64_t losses = 0;
  uint64_t progress = 0;
  bool pending = false;
  bool lost = false;
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
      Call([&](rpc::LinkCallbacks& to) {
        if (to.on_submit) to.on_submit(std::move(request));
      });
    };
    made.on_release = [this](uint64_t id) {
      Call([&](rpc::LinkCallbacks& to) {
        if (to.on_release) to.on_release(id);
      });
    };
    made.on_cancel = [this](uint64_t id) {
      Call([&](rpc::LinkCallbacks& to) {
        if (to.on_cancel) to.on_cancel(id);
      });
    };
    made.on_stop = [this] {
      Call([](rpc::LinkCallbacks& to) {
        if (to.on_stop) to.on_stop();
      });
    };
    made.on_lost = [this](const std::string& why) {
      {
        const std::lock_guard lock(mutex);
        ++losses;
      }
      LOG(WARNING) << why << "; joining again";
      Call([&](rpc::LinkCallbacks& to) {
        if (to.on_lost) to.on_lost(why);
      });
      {
        const std::lock_guard lock(mutex);
        lost = true;
      }
      changed.notify_all();
    };
    return made;
  }

  // Result: false if the session ends.
  bool HoldLink(std::shared_ptr<rpc::CoordinatorLink> made) {
    std::unique_lock lock(mutex);
    if (!closing) {
      link = made;
      link->SetProgress(progress, pending);
      link->Start();  // What the coordinator asks can be answered from here on.
      state = State::kJoined;
      changed.notify_all();
      changed.wait(lock, [this] { return lost || closing; });
      link.reset();
      state = State::kJoining;
      lost = false;
    }
    const bool go_on = !closing;
    lock.unlock();
    made.reset();  // Says goodbye; may take a moment, so not under the lock.
    return go_on;
  }
};

CoordinatorSession::CoordinatorSession(rpc::LinkOptions options, rpc::LinkCallbacks callbacks)
    : shared_(std::make_shared<Shared>()) {
  shared_->options = std::move(options);
  shared_->callbacks = std::move(callbacks);
  thread_ = std::thread([shared = shared_] { Run(shared); });
}

void CoordinatorSession::Run(const std::shared_ptr<Shared>& shared) {
  bool go_on = true;
  while (go_on) {
    try {
      go_on = shared->HoldLink(
          std::make_shared<rpc::CoordinatorLink>(shared->options, shared->MakeCallbacks()));
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

void CoordinatorSession::QueueUpdates(std::vector<SequenceUpdate> updates,
                                      const SchedulerStats& stats, uint64_t losses) {
  std::shared_ptr<rpc::CoordinatorLink> link;
  {
    const std::lock_guard lock(shared_->mutex);
    if (losses == shared_->losses) link = shared_->link;
  }
  if (link != nullptr) link->QueueUpdates(std::move(updates), stats);
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
