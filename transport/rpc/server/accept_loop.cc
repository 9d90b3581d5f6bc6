#include "transport/rpc/server/accept_loop.h"

#include <glog/logging.h>

#include <utility>

namespace shoal::rpc {

AcceptLoop::AcceptLoop(kj::Own<kj::ConnectionReceiver> receiver, kj::Timer& timer, std::string name,
                       kj::Function<void(kj::Own<kj::AsyncIoStream>)> take)
    : receiver_(kj::mv(receiver)),
      timer_(timer),
      name_(std::move(name)),
      take_(kj::mv(take)),
      running_(Run().eagerlyEvaluate([this](kj::Exception&& error) {
        LOG(ERROR) << name_
                   << ": no connection is accepted any more: " << error.getDescription().cStr();
      })) {}

kj::Promise<void> AcceptLoop::Run() {
  // KJ's accept() reports some failures by its promise and throws others.
  return kj::evalNow([this] { return receiver_->accept(); })
      .then(
          [this](kj::Own<kj::AsyncIoStream>&& stream) {
            Take(kj::mv(stream));
            return Run();
          },
          [this](kj::Exception&& error) {
            if (++failures_ == 1) {
              LOG(WARNING) << name_ << ": accept failed and is tried again every "
                           << kPause / kj::MILLISECONDS << " ms: " << error.getDescription().cStr();
            }
            return timer_.afterDelay(kPause).then([this] { return Run(); });
          });
}

void AcceptLoop::Take(kj::Own<kj::AsyncIoStream> stream) {
  if (failures_ > 0) {
    LOG(WARNING) << name_ << ": connections are accepted again after " << failures_ << " failures";
    failures_ = 0;
  }
  KJ_IF_MAYBE (error, kj::runCatchingExceptions([&] { take_(kj::mv(stream)); })) {
    VLOG(1) << name_ << ": " << error->getDescription().cStr();  // Its client has gone already.
  }
}

}  // namespace shoal::rpc
