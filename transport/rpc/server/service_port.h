#pragma once

// The upstream side of the RPC port (service.capnp) over a UpstreamListener.

#include <kj/async.h>

#include <string>

#include "transport/rpc/server/cluster_server.h"
#include "transport/wire/service.capnp.h"

namespace shoal::rpc {

// `group_token`: who drains a group must show it. Empty: none is asked for. `caller`: the other
// end. `listener` and `tasks` outlive it and all generations that it hands out.
wire::Coordinator::Client MakeServicePort(UpstreamListener& listener, kj::TaskSet& tasks,
                                          std::string group_token, Caller caller);

}  // namespace shoal::rpc
