#pragma once

// The server of an overload benchmark: a coordinator and its groups, with tenants and keys.

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/cli/bench/overload/traffic.h"
#include "coordinator/cli/support/http_client.h"
#include "coordinator/launch/child_process.h"

namespace shoal::cli {

struct RigOptions {
  std::string model;
  int32_t groups = 2;         // That it starts. 0: others join it.
  int32_t sequences_max = 4;  // Of each group.
  std::string protections = "all";
  // Files for shoal-coordinator; empty: none.
  std::string tenants_file{};
  std::string breaker_rules{};
  std::string ladder{};
};

// Tokens of work per second that the edge lets through, by tenant; 0: no bound.
struct EdgeLimits {
  std::array<double, kTrafficTenants> tokens_per_second{};
  int64_t burst_tokens_min = 0;  // A request of more tokens than a burst would be refused for good.
};

// Of the capacity, in tokens of work a second: nothing for vip, so much for the others that all of
// it together is more than the capacity, and what waits must still be chosen among.
EdgeLimits MakeEdgeLimits(double capacity_tokens_per_second, int64_t burst_tokens_min);

// What a tenants file for the benchmark's tenants says.
std::string TenantsYaml(const EdgeLimits& limits);

std::array<std::string, kTrafficTenants> TenantKeys();

// A folder for files that is gone with this object.
class ScratchFolder {
 public:
  // Errors: kFailed if it cannot be made.
  ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();

  // Writes a file into it. Result: its path. Errors: kFailed.
  std::string Write(const std::string& name, const std::string& text) const;

 private:
  std::string path_;
};

// shoal-coordinator, which starts its groups by mpirun. Nothing of it outlives this object.
class Rig {
 public:
  // Returns when all groups that it starts are ready. Errors: kFailed, with the last lines that it
  // wrote, if it ends or is not ready within a minute.
  explicit Rig(const RigOptions& options);

  const HttpAddress& address() const { return address_; }
  // "127.0.0.1:7400": where workers and upstream programs join.
  const std::string& rpc_address() const { return rpc_address_; }
  pid_t pid() const { return child_->pid(); }
  // Until so many groups are ready. Errors: as the constructor.
  void AwaitGroups(int32_t groups);

 private:
  struct Lines;

  [[noreturn]] void Fail(const std::string& what);
  void AwaitPorts();

  std::shared_ptr<Lines> lines_;
  std::unique_ptr<launch::ChildProcess> child_;
  HttpAddress address_;
  std::string rpc_address_;
};

}  // namespace shoal::cli
