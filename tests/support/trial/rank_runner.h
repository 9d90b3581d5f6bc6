#pragma once

// Runs a function in forked ranks of a group, without MPI.

#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "tests/support/patience.h"
#include "transport/base/error.h"

namespace shoal::test {

enum class RankKind : uint8_t { kShm, kTcp };

void PrintTo(RankKind kind, std::ostream* out);

// How one rank ended.
struct RankResult {
  std::string bytes;              // What the function returned.
  std::string error;              // what() of the exception that left the function.
  std::optional<ErrorCode> code;  // If that was a shoal::Error.
  int exit_status = -1;           // -1: ended by a signal.
  int signal = 0;
  bool timed_out = false;  // Killed by the runner because the group took too long.

  bool ok() const { return exit_status == 0 && error.empty(); }
};

struct RankOptions {
  int64_t timeout_ms = kPatienceMs;  // For the whole group; also the communicators' first deadline.
  // Ranks that stop themselves: killed once all others have ended.
  std::vector<int32_t> stopped_ranks = {};
};

// One process per rank; the results in rank order. All processes are gone when it returns: those
// that overstay are killed, and the kernel kills them if this process dies. A rank whose function
// throws ends with status 1; the others see it as a lost peer. Errors: kFailed if a process or a
// pipe cannot be made.
std::vector<RankResult> RunRanks(int32_t size, RankKind kind,
                                 const std::function<std::string(comm::Communicator&)>& function,
                                 const RankOptions& options = {});

// "rank 1: peer lost: ...; rank 2: signal 9": what to print when a rank is not ok(). Empty if all
// are.
std::string Describe(const std::vector<RankResult>& results);

}  // namespace shoal::test
