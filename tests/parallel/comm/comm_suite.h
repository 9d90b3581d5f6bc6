#pragma once

// What every Communicator must do, as functions that run on each rank of a group.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace shoal::test {

// A promise, tried on messages of about `bytes` bytes. Collective.
// Errors: kFailed, saying what was expected and found.
struct SuiteCase {
  std::string name;
  std::function<void(comm::Communicator&, int64_t bytes)> run;
};

// All leave the group usable.
const std::vector<SuiteCase>& SuiteCases();

// A random sequence of `count` operations of random sizes, each compared with what all ranks'
// inputs, which every rank knows, must give.
void RunRandomSequence(comm::Communicator& comm, uint64_t seed, int32_t count);

// Rank 0 aborts from another thread while all ranks wait. Leaves the group failed.
void RunAbort(comm::Communicator& comm);

// Splits into even and odd ranks; the highest rank aborts its part, and the parent fails on all
// ranks.
void RunSplitAbort(comm::Communicator& comm);

}  // namespace shoal::test
