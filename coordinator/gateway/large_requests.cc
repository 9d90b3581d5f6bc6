#include "coordinator/gateway/large_requests.h"

// A queue of requests, each answered by the service behind after a pause of the loop.

#include <glog/logging.h>
#include <kj/exception.h>

#include <utility>

namespace shoal::gateway {
namespace {

// Some ten milliseconds of tokenizing.
constexpr size_t kLargeBytes = 64 * 1024;
// A timer fires only after the loop has looked at its sockets.
constexpr auto kPause = 1 * kj::MILLISECONDS;

}  // namespace

// Waits for its turn, then stands for the answer that the service makes.
class LargeRequests::Turn : public PendingAnswer {
 public:
  Turn(LargeRequests& owner, const HttpRequest& request, HttpReply& reply)
      : owner_(owner), request_(request), reply_(reply) {}
  ~Turn() override { std::erase(owner_.waiting_, this); }

  void Take() {
    const HttpRequest request = std::exchange(request_, {});
    answer_ = owner_.service_.Answer(request, reply_);
  }

  void Tick(TimeNs now) override {
    if (answer_ != nullptr) answer_->Tick(now);
  }

 private:
  LargeRequests& owner_;
  HttpRequest request_;
  HttpReply& reply_;
  std::unique_ptr<PendingAnswer> answer_;
};

std::unique_ptr<PendingAnswer> LargeRequests::Answer(const HttpRequest& request, HttpReply& reply) {
  if (request.body.size() < kLargeBytes) return service_.Answer(request, reply);
  auto turn = std::make_unique<Turn>(*this, request, reply);
  waiting_.push_back(turn.get());
  if (!taking_turns_) {
    taking_turns_ = true;
    turns_ = TakeTurns().eagerlyEvaluate(
        [](kj::Exception&& error) { LOG(ERROR) << error.getDescription().cStr(); });
  }
  return turn;
}

HttpResponse LargeRequests::Refuse(int status, const std::string& message) {
  return service_.Refuse(status, message);
}

kj::Promise<void> LargeRequests::TakeTurns() {
  return timer_.afterDelay(kPause).then([this]() -> kj::Promise<void> {
    if (waiting_.empty()) {
      taking_turns_ = false;
      return kj::READY_NOW;
    }
    Turn* turn = waiting_.front();
    waiting_.pop_front();
    turn->Take();
    return TakeTurns();
  });
}

}  // namespace shoal::gateway
