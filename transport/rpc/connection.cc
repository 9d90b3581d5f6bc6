#include "transport/rpc/connection.h"

#include <kj/timer.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "transport/base/error.h"

namespace shoal::rpc {

namespace {

kj::Own<kj::AsyncIoStream> Dial(kj::AsyncIoContext& io, const std::string& address,
                                int64_t dial_timeout_ms, int64_t socket_timeout_ms) {
  kj::Timer& timer = io.provider->getTimer();
  auto dialled = io.provider->getNetwork()
                     .parseAddress(address.c_str())
                     .then([](kj::Own<kj::NetworkAddress>&& parsed) {
                       auto promise = parsed->connect();
                       return promise.attach(kj::mv(parsed));
                     });
  auto stream = timer.timeoutAt(FromNow(dial_timeout_ms), kj::mv(dialled)).wait(io.waitScope);
  TuneSocket(*stream, socket_timeout_ms);
  return stream;
}

}  // namespace

kj::TimePoint FromNow(int64_t milliseconds) {
  return kj::systemPreciseMonotonicClock().now() + milliseconds * kj::MILLISECONDS;
}

::capnp::ReaderOptions MessageLimits() {
  ::capnp::ReaderOptions options;
  options.traversalLimitInWords = kMessageBytesMax / sizeof(::capnp::word);
  options.nestingLimit = 16;
  return options;
}

void TuneSocket(kj::AsyncIoStream& stream, int64_t timeout_ms) {
  const int no_delay = 1;
  const unsigned user_timeout = static_cast<unsigned>(timeout_ms);
  stream.setsockopt(IPPROTO_TCP, TCP_NODELAY, &no_delay, sizeof(no_delay));
  stream.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout));
  const int keep_alive = 1;
  const int seconds = 1;  // Of silence before the first question, and between two.
  stream.setsockopt(SOL_SOCKET, SO_KEEPALIVE, &keep_alive, sizeof(keep_alive));
  stream.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
  stream.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
}

void CheckAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  const bool digits = !port.empty() && port.size() <= 5 &&
                      port.find_first_not_of("0123456789") == std::string::npos;
  if (colon == 0 || !digits || std::stoi(port) < 1 || std::stoi(port) > 65535) {
    Throw(ErrorCode::kInvalidArgument, "coordinator address \"", address,
          "\": expected HOST:PORT with a port from 1 to 65535, as in 127.0.0.1:7400");
  }
}

DialledConnection::DialledConnection(kj::AsyncIoContext& io, const std::string& address,
                                     int64_t dial_timeout_ms, int64_t socket_timeout_ms)
    : stream_(Dial(io, address, dial_timeout_ms, socket_timeout_ms)),
      network_(*stream_, ::capnp::rpc::twoparty::Side::CLIENT, MessageLimits()),
      system_(::capnp::makeRpcClient(network_)) {
  system_.setFlowLimit(kFlowBytesMax / sizeof(::capnp::word));
}

wire::Gate::Client DialledConnection::gate() {
  ::capnp::word scratch[4] = {};
  ::capnp::MallocMessageBuilder message(scratch);
  auto server = message.getRoot<::capnp::rpc::twoparty::VatId>();
  server.setSide(::capnp::rpc::twoparty::Side::SERVER);
  return system_.bootstrap(server).castAs<wire::Gate>();
}

kj::Promise<void> DialledConnection::OnDisconnect() { return network_.onDisconnect(); }

}  // namespace shoal::rpc
