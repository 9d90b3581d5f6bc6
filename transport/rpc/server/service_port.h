#pragma once

// The upstream side of the RPC port (service.capnp) over a UpstreamListener.

#include <kj/async.h>

#include "transport/rpc/server/cluster_server.h"
#include "transport/wire/service.capnp.h"

namespace shoal::rpc {

// `handler` and `tasks` outlive it and all generations that it hands out.
wire::Coordinator::Client MakeServicePort(UpstreamListener& listener, kj::TaskSet& tasks);

}  // namespace shoal::rpc
