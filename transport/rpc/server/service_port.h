#pragma once

// The upstream side of the RPC port (service.capnp) over a UpstreamListener.

#include <kj/async.h>
#include <kj/timer.h>

#include <cstdint>
#include <memory>
#include <string>

#include "transport/rpc/server/cluster_server.h"
#include "transport/wire/service.capnp.h"

namespace shoal::rpc {

// What an upstream program does with its connection.
struct ServiceUse {
  int64_t live = 0;  // Its calls and generations under way.
  kj::TimePoint last_call = kj::origin<kj::TimePoint>();
};

// `api_key`: what the other end has shown; whose it is, and whether it still is anybody's, is
// looked up with each call. What is referred to outlives it and all generations that it hands out.
wire::Coordinator::Client MakeServicePort(UpstreamListener& listener, kj::TaskSet& tasks,
                                          const ClusterServerOptions& options, kj::Timer& timer,
                                          std::string api_key, std::shared_ptr<ServiceUse> use);

}  // namespace shoal::rpc
