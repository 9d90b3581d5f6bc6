#pragma once

// From flags to a group that can take steps: model, cut, memory, communicator, shard.

#include <algorithm>
#include <memory>
#include <vector>

#include "parallel/comm/mpi/mpi_environment.h"
#include "worker/rank/group_member.h"
#include "worker/rank/memory_budget.h"
#include "worker/rank/worker_options.h"

namespace shoal::rank {

// In the order in which they depend on each other, so that they are destroyed in the reverse one.
struct GroupSetup {
  std::unique_ptr<model::Model> model;
  const cpu::KernelTable* kernels = nullptr;
  std::vector<plan::RankShard> shards;
  int32_t threads = 1;
  int64_t context_tokens = 0;  // The model's or the configured one, whatever memory there is.
  MemoryNeeds needs;           // This rank's.
  int64_t cache_tokens = 0;    // A multiple of the block; the same on every rank.
  std::unique_ptr<comm::Communicator> group;
  std::unique_ptr<device::ThreadTeam> team;
  std::unique_ptr<GroupMember> member;

  plan::Cut cut{};
  int64_t cache_blocks() const { return cache_tokens / kKvBlockTokens; }
  // The longest sequence.
  int64_t tokens_max() const { return std::min(context_tokens, cache_tokens); }
};

// Collective; a failure of any rank is the same Error on all. `force_isa`: the SHOAL_FORCE_ISA
// variable. Errors: kInvalidArgument for a number of ranks that is not the product of the cut's
// degrees (naming both), options that differ between ranks, a bad model, an impossible cut, too
// little memory; kMissingHardware; those of joining the communicator. `on_logits`, `on_input`: as
// RankOptions.
std::unique_ptr<GroupSetup> SetUpGroup(comm::MpiEnvironment& environment,
                                       const WorkerOptions& options, const std::string& force_isa,
                                       const Clock& clock, forward::LogitsSink on_logits = nullptr,
                                       forward::InputSink on_input = nullptr);

}  // namespace shoal::rank
