#pragma once

// What peers meet on one connection to the RPC port (gate.capnp, worker.capnp): they authenticate,
// then get a way in for ranks or for upstream programs.

#include <kj/common.h>

#include <cstdint>
#include <string>

#include "transport/rpc/server/cluster_server.h"
#include "transport/wire/gate.capnp.h"

namespace shoal::rpc {

// The server that all ports share. Every port names its connection by number and dies with it, so
// nothing that a peer keeps can act for another connection.
class PortHost {
 public:
  virtual ~PortHost() = default;
  virtual const ClusterServerOptions& options() const = 0;
  virtual RankListener& ranks() = 0;
  // The connection has shown what it knows.
  virtual void Authenticated(uint64_t connection) = 0;
  // The connection is about to be a rank's; false if it is one already.
  virtual bool BeginRegistration(uint64_t connection, kj::Maybe<wire::Leader::Client> leader) = 0;
  virtual void EndRegistration(uint64_t connection, bool accepted) = 0;
  // For whoever has that key, at the other end of that connection.
  virtual wire::Coordinator::Client MakeService(uint64_t connection, std::string api_key) = 0;
};

// `host` outlives it.
wire::Gate::Client MakeGate(PortHost& host, uint64_t connection);

}  // namespace shoal::rpc
