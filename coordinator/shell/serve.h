#pragma once

// A coordinator from its start to a signal, for programs that know nothing of its event loop.

#include <cstdint>
#include <functional>
#include <string>

#include "coordinator/shell/coordinator.h"

namespace shoal::gateway {

struct Listening {
  std::string url;  // "http://127.0.0.1:8000"
  uint16_t rpc_port = 0;
};

struct ServeHooks {
  // Both ports are open.
  std::function<void(const Listening& where)> on_listening;
  ManagedRegionEvents region;
  // Asked ten times a second; false ends serving. May be null.
  std::function<bool()> go_on;
};

// From here until Serve, SIGINT and SIGTERM end the process at once with status 0: there is nothing
// to stop yet. First thing in a program that serves.
void EndOnSignals();

// SIGHUP has the files of tenants, breaker rules and the ladder read again, if there is any.
// Returns after SIGINT, SIGTERM or go_on's false, when the groups have been dismissed and answers
// are out, `stop_grace_ms` later at most; groups that it started itself are gone, 2 s later at
// most. Takes the two signals over for the process: they stay blocked. Errors: as Coordinator's
// constructor, and what the hooks throw.
void Serve(const CoordinatorOptions& options, int64_t stop_grace_ms, ServeHooks hooks);

}  // namespace shoal::gateway
