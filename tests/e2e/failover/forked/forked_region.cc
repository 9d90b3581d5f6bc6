#include "tests/e2e/failover/forked/forked_region.h"

#include <poll.h>

#include <utility>

#include "tests/support/patience.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

KeeperOptions WithPlaces(KeeperOptions keeper, const std::string& folder,
                         const ForkedCoordinator& coordinator) {
  keeper.coordinator = coordinator.rpc_address();
  keeper.log = folder + "/ranks.log";
  return keeper;
}

}  // namespace

void Pause(int64_t milliseconds) { poll(nullptr, 0, static_cast<int>(milliseconds)); }

ForkedRegion::ForkedRegion(const model::Model& model, ForkedRegionOptions options)
    : coordinator_(options.coordinator, options.folder + "/coordinator.log"),
      keeper_(model, WithPlaces(std::move(options.keeper), options.folder, coordinator_)) {}

RegionStatus ForkedRegion::Status() {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kPatienceMs);
  while (true) {
    try {
      return rpc::Client({.address = coordinator_.rpc_address()}).Status();
    } catch (const Error&) {  // The coordinator was killed a moment ago.
      if (deadline.Passed(clock)) throw;
      Pause(2);
    }
  }
}

std::vector<GroupStatus> ForkedRegion::Groups(bool ready_only) {
  std::vector<GroupStatus> groups = Status().groups;
  std::erase_if(groups, [&](const GroupStatus& group) {
    return ready_only && group.state != GroupState::kReady;
  });
  return groups;
}

void ForkedRegion::WaitForReady(size_t count) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kPatienceMs);
  while (Groups(true).size() < count) {
    if (deadline.Passed(clock)) {
      Throw(ErrorCode::kDeadlineExceeded, "of ", count, " groups not all were ready");
    }
    Pause(2);
  }
}

}  // namespace shoal::test
