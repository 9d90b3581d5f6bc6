#pragma once

// What all connections of the project have in common: limits, socket options, the dialling side.

#include <capnp/message.h>
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/time.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "transport/wire/gate.capnp.h"

namespace shoal::rpc {

// The largest message that a connection takes; a larger one ends it. The largest that is sent is a
// request with its prompt: updates are cut into small ones (update_queue.h).
constexpr uint64_t kMessageBytesMax = uint64_t{64} << 20;
// Tokens of a prompt: they, and the request's parameters, fit a message twice over.
constexpr size_t kPromptTokensMax = kMessageBytesMax / 2 / sizeof(int32_t);
// Calls of one connection that may lie unanswered at the receiver.
constexpr uint64_t kFlowBytesMax = uint64_t{16} << 20;

// So many milliseconds from now, for a timer of KJ's. The timer itself knows only when its loop
// last waited: where a loop runs during calls alone, that is as long ago as the last call.
kj::TimePoint FromNow(int64_t milliseconds);

// Limits for the messages that a connection accepts. Nesting: our deepest message has 6 levels.
::capnp::ReaderOptions MessageLimits();

// Small messages leave at once, and unacknowledged bytes break the connection after `timeout_ms`
// instead of the kernel's quarter of an hour. One that has nothing to say asks after a second
// whether the other end is there, and breaks by the same rule.
void TuneSocket(kj::AsyncIoStream& stream, int64_t timeout_ms);

// "HOST:PORT", checked. Errors: kInvalidArgument.
void CheckAddress(const std::string& address);

// The dialling end of one connection to a coordinator's RPC port.
class DialledConnection {
 public:
  // Once it stands, `socket_timeout_ms` is TuneSocket's. Errors: kj::Exception if nobody answers
  // within `dial_timeout_ms`.
  DialledConnection(kj::AsyncIoContext& io, const std::string& address, int64_t dial_timeout_ms,
                    int64_t socket_timeout_ms);

  wire::Gate::Client gate();
  // Resolves when the connection is gone.
  kj::Promise<void> OnDisconnect();

 private:
  kj::Own<kj::AsyncIoStream> stream_;
  ::capnp::TwoPartyVatNetwork network_;
  ::capnp::RpcSystem<::capnp::rpc::twoparty::VatId> system_;
};

}  // namespace shoal::rpc
