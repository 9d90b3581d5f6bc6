#include "coordinator/shell/serve.h"

#include <glog/logging.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <unistd.h>

#include <csignal>
#include <utility>

namespace shoal::gateway {
namespace {

constexpr int64_t kLookForEndMs = 100;

kj::Promise<void> WaitUntilEnough(kj::Timer& timer, const std::function<bool()>& go_on) {
  if (!go_on) return kj::NEVER_DONE;
  if (!go_on()) return kj::READY_NOW;
  return timer.afterDelay(kLookForEndMs * kj::MILLISECONDS).then([&timer, &go_on] {
    return WaitUntilEnough(timer, go_on);
  });
}

// Ends with the task.
kj::Promise<void> ReadPoliciesOnSignals(kj::UnixEventPort& events, Coordinator& coordinator) {
  return events.onSignal(SIGHUP).then([&](siginfo_t&&) {
    coordinator.ReadPoliciesAgain();
    return ReadPoliciesOnSignals(events, coordinator);
  });
}

}  // namespace

void EndOnSignals() {
  for (const int number : {SIGINT, SIGTERM}) std::signal(number, [](int) { _exit(0); });
}

void Serve(const CoordinatorOptions& options, int64_t stop_grace_ms, ServeHooks hooks) {
  // Before the event loop exists, or a signal during start-up would end the process with its code.
  kj::UnixEventPort::captureSignal(SIGINT);
  kj::UnixEventPort::captureSignal(SIGTERM);
  // Without a file to read again it ends the process, as when a terminal closes.
  const bool has_policies = options.has_policies();
  if (has_policies) kj::UnixEventPort::captureSignal(SIGHUP);
  auto io = kj::setupAsyncIo();
  auto signalled =
      io.unixEventPort.onSignal(SIGINT).exclusiveJoin(io.unixEventPort.onSignal(SIGTERM));
  Coordinator coordinator(io, options, std::move(hooks.region));
  kj::Promise<void> rereads =
      has_policies ? ReadPoliciesOnSignals(io.unixEventPort, coordinator) : kj::NEVER_DONE;
  if (hooks.on_listening) hooks.on_listening({coordinator.url(), coordinator.rpc_port()});
  signalled.ignoreResult()
      .exclusiveJoin(kj::mv(rereads))
      .exclusiveJoin(WaitUntilEnough(io.provider->getTimer(), hooks.go_on))
      .wait(io.waitScope);
  LOG(INFO) << "stopping";
  coordinator.Stop(stop_grace_ms).wait(io.waitScope);
}

}  // namespace shoal::gateway
