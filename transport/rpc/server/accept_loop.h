#pragma once

// Takes connections from a listening socket for as long as it lives, whatever accept() says: both
// listeners of a coordinator run one.

#include <kj/async-io.h>
#include <kj/function.h>
#include <kj/timer.h>

#include <cstdint>
#include <string>

namespace shoal::rpc {

// Threading: owned by the event loop. Destroying it stops listening.
class AcceptLoop {
 public:
  // `take` is given each connection, in turns of the event loop of their own; what it throws costs
  // that connection alone. `name` is what log lines call the port. While accept() fails (out of
  // descriptors or memory), it is tried again every kPause; whoever connects meanwhile waits in the
  // socket's backlog.
  AcceptLoop(kj::Own<kj::ConnectionReceiver> receiver, kj::Timer& timer, std::string name,
             kj::Function<void(kj::Own<kj::AsyncIoStream>)> take);
  AcceptLoop(const AcceptLoop&) = delete;

  static constexpr auto kPause = 100 * kj::MILLISECONDS;

 private:
  kj::Promise<void> Run();
  void Take(kj::Own<kj::AsyncIoStream> stream);

  kj::Own<kj::ConnectionReceiver> receiver_;
  kj::Timer& timer_;
  const std::string name_;
  kj::Function<void(kj::Own<kj::AsyncIoStream>)> take_;
  int64_t failures_ = 0;  // In a row.
  kj::Promise<void> running_;
};

}  // namespace shoal::rpc
