#pragma once

// Listens, accepts, and keeps the connections.

#include <kj/async-io.h>
#include <kj/timer.h>

#include <cstdint>
#include <set>
#include <string>

#include "coordinator/gateway/http/http_connection.h"
#include "transport/rpc/server/accept_loop.h"

namespace shoal::gateway {

// An address as URLs write it: IPv6 in brackets.
std::string UrlHost(const std::string& address);

// Threading: owned by the event loop.
class HttpServer : private kj::TaskSet::ErrorHandler {
 public:
  HttpServer(const HttpLimits& limits, HttpService& service, kj::Timer& timer);
  ~HttpServer() noexcept;

  // `port` 0: any free one. Errors: kInvalidArgument, naming the address, if it is in use or not
  // ours.
  void Listen(kj::Network& network, const std::string& bind, uint16_t port,
              kj::WaitScope& wait_scope);

  // Takes a connection made elsewhere.
  void Accept(kj::Own<kj::AsyncIoStream> stream);

  uint16_t port() const { return port_; }
  size_t connection_count() const { return connections_.size(); }

  // Refuses new connections and requests at once; resolves when the last answer is out, or after
  // `grace_ms`, when what is left is dropped.
  kj::Promise<void> Stop(int64_t grace_ms);

 private:
  void taskFailed(kj::Exception&& error) override;
  // Closes the connection that has been idle longest. Result: false if none is idle.
  bool MakeRoom();
  // Says 503 to a connection that there is no room for, and closes it.
  void Refuse(kj::Own<kj::AsyncIoStream> stream);
  kj::Promise<void> TickLoop();

  const HttpLimits limits_;
  HttpService& service_;
  kj::Timer& timer_;
  uint16_t port_ = 0;
  std::set<HttpConnection*> connections_;  // Owned by tasks_.
  bool stopping_ = false;
  int32_t refusals_ = 0;
  kj::Own<rpc::AcceptLoop> accepting_;
  kj::Promise<void> ticking_ = nullptr;
  kj::Own<kj::TaskSet> tasks_;  // Last: destroying it removes connections from the set above.
};

}  // namespace shoal::gateway
