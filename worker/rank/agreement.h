#pragma once

// How the ranks of a job end alike: what one of them finds wrong, all of them report.

#include <functional>
#include <optional>
#include <string>

#include "parallel/comm/mpi/mpi_environment.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::rank {

struct Failure {
  ErrorCode code = ErrorCode::kFailed;
  std::string message;

  bool operator==(const Failure&) const = default;
};

// Runs `work`. Result: what it threw, if it threw.
std::optional<Failure> TryTo(const std::function<void()>& work);

// Of all ranks' outcomes, in rank order, the one to report: a failure that explains itself before
// one that is only the echo of another rank's end (kPeerLost, kDeadlineExceeded), then the lowest
// rank.
std::optional<Failure> ChooseFailure(const std::vector<std::optional<Failure>>& outcomes);

// Each rank's settings, in rank order: lines "name=value", the same names in the same order.
// Result: what to say about the first name whose values differ, with two ranks that do; empty if
// none does.
std::string FindDifference(const std::vector<std::string>& settings);

// Collective: the same result on every rank, or, if the others do not take part in time, this
// rank's own. `agreed` says which it was.
struct Agreement {
  std::optional<Failure> failure;
  bool agreed = true;
};
Agreement Agree(comm::MpiEnvironment& environment, std::optional<Failure> own, Deadline deadline);

// Collective: every rank runs `work`; if any fails, all throw the same Error.
void RunOnAllRanks(comm::MpiEnvironment& environment, Deadline deadline,
                   const std::function<void()>& work);

}  // namespace shoal::rank
