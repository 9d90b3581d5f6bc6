#pragma once

// A coordinator and the groups that its keeper forks.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/e2e/failover/asks.h"
#include "tests/e2e/failover/forked/forked_coordinator.h"
#include "tests/e2e/failover/forked/group_keeper.h"
#include "transport/rpc/client.h"

namespace shoal::test {

struct ForkedRegionOptions {
  gateway::CoordinatorOptions coordinator;
  KeeperOptions keeper;  // But for the coordinator's address and the log.
  std::string folder;    // For coordinator.log and ranks.log.
};

// Threading: one thread.
class ForkedRegion {
 public:
  // Precondition: this process has one thread. Errors: kFailed, kDeadlineExceeded.
  ForkedRegion(const model::Model& model, ForkedRegionOptions options);

  Door door() const { return {coordinator_.rpc_address(), coordinator_.port()}; }
  ForkedCoordinator& coordinator() { return coordinator_; }
  GroupKeeper& keeper() { return keeper_; }

  RegionStatus Status();
  // Those that are ready, or all.
  std::vector<GroupStatus> Groups(bool ready_only);
  // Until so many groups are. Errors: kDeadlineExceeded.
  void WaitForReady(size_t count);

 private:
  ForkedCoordinator coordinator_;
  GroupKeeper keeper_;
};

// Of this thread alone.
void Pause(int64_t milliseconds);

}  // namespace shoal::test
