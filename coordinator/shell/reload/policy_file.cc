#include "coordinator/shell/reload/policy_file.h"

#include <glog/logging.h>

#include <exception>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "coordinator/gateway/text/text_thread.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

constexpr auto kWarnAfter = 10 * kj::SECONDS;

}  // namespace

PolicyFile::PolicyFile(std::string path, Read read, kj::Timer& timer,
                       std::function<void(core::Record)> note)
    : path_(std::move(path)), read_(std::move(read)), timer_(timer), note_(std::move(note)) {}

void PolicyFile::ReadAgain() {
  again_ = true;
  if (std::exchange(reading_, true)) return;
  task_ = ReadLoop().exclusiveJoin(WatchLoop()).eagerlyEvaluate([this](kj::Exception&& error) {
    reading_ = false;
    Refuse(error.getDescription().cStr());
  });
}

kj::Promise<void> PolicyFile::ReadLoop() {
  again_ = false;
  return ReadBeside().then([this](Apply apply) -> kj::Promise<void> {
    if (apply) Take(apply);
    if (again_) return ReadLoop();
    reading_ = false;
    return kj::READY_NOW;
  });
}

kj::Promise<void> PolicyFile::WatchLoop() {
  return timer_.afterDelay(kWarnAfter).then([this] {
    LOG(WARNING) << path_ << " is still being read: all stays as it was until then";
    return WatchLoop();
  });
}

kj::Promise<PolicyFile::Apply> PolicyFile::ReadBeside() {
  using Result = kj::Own<Outcome<Apply>>;
  auto pair = kj::newPromiseAndCrossThreadFulfiller<Result>();
  // A thread takes nothing whose destructor may throw.
  const auto fulfiller = std::make_shared<decltype(pair.fulfiller)>(kj::mv(pair.fulfiller));
  try {
    // Detached: nobody waits for it but the promise.
    std::thread([read = read_, fulfiller] {
      (*fulfiller)->fulfill(kj::heap<Outcome<Apply>>(read));
    }).detach();
  } catch (const std::system_error& error) {  // This machine has no thread left.
    Refuse(Str(path_, ": cannot be read beside the loop: ", error.what()));
    return Apply();
  }
  return pair.promise.then([this](Result&& outcome) {
    try {
      return outcome->Take();
    } catch (const std::exception& error) {  // The file's fault, said where its user looks.
      Refuse(error.what());
      return Apply();
    }
  });
}

void PolicyFile::Take(const Apply& apply) {
  const std::string detail = Str(path_, ": ", apply());
  LOG(INFO) << detail << ", from now on";
  note_({.kind = core::RecordKind::kPolicyLoaded, .detail = detail});
}

void PolicyFile::Refuse(const std::string& why) {
  LOG(ERROR) << why << ": all stays as it was";
  note_({.kind = core::RecordKind::kPolicyRefused, .detail = why});
}

}  // namespace shoal::gateway
