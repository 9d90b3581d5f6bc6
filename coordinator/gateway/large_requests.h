#pragma once

// Lets the event loop look at its sockets between large requests.

#include <kj/async.h>
#include <kj/timer.h>

#include <deque>
#include <memory>
#include <string>

#include "coordinator/gateway/http_exchange.h"

namespace shoal::gateway {

// Reading and tokenizing a body of megabytes takes the loop's thread for a second or so. Many at
// once would keep it from the ranks' calls until groups count as lost, so large requests go one by
// one, with a look at all sockets before each. Order: large requests as they came; small ones pass
// them. Threading: owned by the event loop. Must outlive the answers it returns.
class LargeRequests : public HttpService {
 public:
  LargeRequests(HttpService& service, kj::Timer& timer) : service_(service), timer_(timer) {}
  ~LargeRequests() noexcept override = default;

  std::unique_ptr<PendingAnswer> Answer(const HttpRequest& request, HttpReply& reply) override;
  HttpResponse Refuse(int status, const std::string& message) override;

 private:
  class Turn;

  kj::Promise<void> TakeTurns();

  HttpService& service_;
  kj::Timer& timer_;
  std::deque<Turn*> waiting_;  // Owned by their connections.
  bool taking_turns_ = false;
  kj::Promise<void> turns_ = nullptr;
};

}  // namespace shoal::gateway
