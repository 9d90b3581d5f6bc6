// Each phase ends with an agreement of all ranks, so that none waits for one that has given up.

#include "worker/rank/group_setup.h"

#include <glog/logging.h>

#include <algorithm>
#include <string>

#include "parallel/comm/make_communicator.h"
#include "transport/base/error.h"
#include "transport/base/host/cores.h"
#include "transport/base/host/memory.h"
#include "transport/rpc/secret.h"
#include "worker/rank/agreement.h"
#include "worker/rank/local_address.h"
#include "worker/rank/memory_budget.h"

namespace shoal::rank {
namespace {

// Deadline of phases that only read headers and compute.
constexpr int64_t kAgreeMs = 60'000;

int32_t ChooseThreads(int32_t asked, int32_t local_ranks) {
  if (asked > 0) return asked;
  // mpirun may have bound this rank to fewer cores than its share.
  return std::max(1, std::min(MachineCores() / local_ranks, AvailableCores()));
}

void OpenModel(const comm::MpiEnvironment& environment, const WorkerOptions& options,
               const std::string& force_isa, GroupSetup& setup) {
  setup.cut = {options.tensor_parallel, options.pipeline_parallel};
  const int64_t product = int64_t{options.tensor_parallel} * options.pipeline_parallel;
  if (product != environment.size()) {
    Throw(ErrorCode::kInvalidArgument, "--tensor-parallel ", options.tensor_parallel,
          " times --pipeline-parallel ", options.pipeline_parallel, " makes ", product,
          " ranks, mpirun started ", environment.size(), ": use mpirun -np ", product);
  }
  setup.kernels = &cpu::SelectKernelTable(cpu::DetectCpuFeatures(), force_isa);
  setup.threads = ChooseThreads(options.threads, environment.local_size());
  setup.model = model::Model::Open(options.model);
  setup.shards = plan::PlanCut(*setup.model,
                               {.cut = setup.cut, .rank_speeds = {}, .kv_dtype = options.kv_dtype});
  const int64_t longest = setup.model->config().context_tokens;
  if (options.context_tokens_max > longest) {
    Throw(ErrorCode::kInvalidArgument, "--context-tokens-max ", options.context_tokens_max, ": ",
          options.model, " was made for ", longest, " tokens: lower it");
  }
  setup.context_tokens = options.context_tokens_max > 0 ? options.context_tokens_max : longest;
}

// Collective. Errors: kInvalidArgument, the same on all ranks, for settings that differ.
void AgreeOn(comm::MpiEnvironment& environment, const std::string& settings) {
  const Deadline deadline = Deadline::After(SteadyClock(), kAgreeMs);
  const std::string difference = FindDifference(environment.AllGather(settings, deadline));
  if (!difference.empty()) Throw(ErrorCode::kInvalidArgument, difference);
}

// Each rank reads a file of its own.
std::string ModelText(const GroupSetup& setup) {
  int64_t bytes = 0;
  for (const plan::RankShard& shard : setup.shards) bytes += shard.weight_bytes;
  const model::ModelConfig& config = setup.model->config();
  return Str("model=", setup.model->name(), " (", config.layer_count, " layers of ",
             config.hidden_dim, ", ", config.vocab_size, " token ids, ", bytes, " bytes)");
}

// Result: how many tokens this rank's cache can hold.
int64_t BudgetCache(const comm::MpiEnvironment& environment, const WorkerOptions& options,
                    GroupSetup& setup) {
  const int32_t rank = environment.rank();
  setup.needs = ComputeNeeds(
      *setup.model, setup.shards[static_cast<size_t>(rank)],
      {.cut = setup.cut,
       .rows_max = options.scheduler.prefill_chunk_tokens + options.scheduler.sequences_max,
       .context_tokens = setup.context_tokens,
       .threads = setup.threads,
       .fast = options.numerics == forward::Numerics::kFast,
       .staged = options.comm == comm::CommKind::kMpi});
  const int64_t available = options.memory_bytes_max > 0
                                ? options.memory_bytes_max
                                : MemoryBytes(kMemoryAvailable) / environment.local_size();
  if (options.kv_cache_tokens > 0) {
    const int64_t tokens =
        (options.kv_cache_tokens + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
    CheckMemory(rank, setup.needs, available, tokens, options.kv_cache_bytes_max);
    return tokens;
  }
  // A context that was asked for must fit. The model's own need not: the coordinator gives requests
  // that may grow beyond the cache to another group, or refuses them and names the cache.
  return DefaultCacheTokens(
      rank, setup.needs, available,
      {.context_tokens = setup.context_tokens,
       .sequences_max = options.scheduler.sequences_max,
       .tokens_least = options.context_tokens_max > 0 ? setup.context_tokens : kKvBlockTokens,
       .bytes_max = options.kv_cache_bytes_max});
}

// The smallest of all ranks' caches: the scheduler hands out a block on all ranks at once.
void AgreeOnCache(comm::MpiEnvironment& environment, const WorkerOptions& options,
                  GroupSetup& setup) {
  int64_t tokens = 0;
  const Deadline deadline = Deadline::After(SteadyClock(), kAgreeMs);
  RunOnAllRanks(environment, deadline, [&] { tokens = BudgetCache(environment, options, setup); });
  for (const std::string& text : environment.AllGather(std::to_string(tokens), deadline)) {
    tokens = std::min<int64_t>(tokens, std::stoll(text));
  }
  setup.cache_tokens = tokens;
}

// Says where the memory goes. Memory that was never touched is only reserved.
void LogMemory(const comm::MpiEnvironment& environment, const GroupSetup& setup) {
  const int64_t weights = setup.member->model().weight_bytes();
  const int64_t cache = setup.cache_tokens * setup.needs.kv_per_token;
  LOG(INFO) << "rank " << environment.rank() << " of " << environment.size() << ": "
            << setup.kernels->name << ", " << setup.threads << " threads, up to "
            << weights + cache + setup.needs.activations << " bytes of memory: weights " << weights
            << ", KV cache " << cache << " for " << setup.cache_tokens << " tokens, activations "
            << setup.needs.activations << "; context " << setup.context_tokens << " tokens";
  if (environment.rank() > 0 || setup.cache_tokens >= setup.context_tokens) return;
  LOG(WARNING) << "the KV cache of " << setup.cache_tokens << " tokens is smaller than the context "
               << "of " << setup.context_tokens << ": this group takes no request that may need "
               << "more. Raise kv-cache-tokens, kv-cache-bytes-max or memory-bytes-max, use more "
               << "ranks, or lower context-tokens-max";
}

comm::CommunicatorPlan PlanCommunicator(const comm::MpiEnvironment& environment,
                                        const WorkerOptions& options, const GroupSetup& setup,
                                        Deadline deadline) {
  comm::CommunicatorPlan plan{
      .kind = options.comm, .threads_per_rank = setup.threads, .deadline = deadline};
  const bool one_machine = environment.local_size() == environment.size();
  if (plan.kind != comm::CommKind::kMpi && !one_machine && !options.coordinator.empty()) {
    plan.listen_host = LocalAddressTowards(options.coordinator);
  }
  if (!options.group_token_file.empty()) {
    plan.token = rpc::ReadSecretFile(options.group_token_file);
  }
  return plan;
}

void MakeMember(const WorkerOptions& options, const Clock& clock, forward::LogitsSink on_logits,
                forward::InputSink on_input, GroupSetup& setup) {
  GroupMemberOptions member;
  member.step_timeout_ms = options.step_timeout_ms;
  member.model.cut = setup.cut;
  member.model.kv_dtype = options.kv_dtype;
  member.model.numerics = options.numerics;
  member.model.kv_block_count = setup.cache_blocks();
  member.model.context_tokens = setup.context_tokens;
  member.model.sequences_max = options.scheduler.sequences_max;
  member.model.prefill_chunk_tokens = options.scheduler.prefill_chunk_tokens;
  member.model.on_logits = std::move(on_logits);
  member.model.on_input = std::move(on_input);
  member.model.planted_fault = forward::PlantedFaultOfEnvironment();
  try {
    setup.team = std::make_unique<device::ThreadTeam>(setup.threads);
    setup.member = std::make_unique<GroupMember>(*setup.model, member, *setup.kernels, *setup.team,
                                                 clock, *setup.group);
  } catch (...) {  // Rethrown: the others wait in a collective and must learn of it.
    setup.group->Abort();
    throw;
  }
}

}  // namespace

std::unique_ptr<GroupSetup> SetUpGroup(comm::MpiEnvironment& environment,
                                       const WorkerOptions& options, const std::string& force_isa,
                                       const Clock& clock, forward::LogitsSink on_logits,
                                       forward::InputSink on_input) {
  auto setup = std::make_unique<GroupSetup>();
  comm::CommunicatorPlan comm_plan;
  AgreeOn(environment, GroupOptionsText(options));
  RunOnAllRanks(environment, Deadline::After(clock, kAgreeMs), [&] {
    OpenModel(environment, options, force_isa, *setup);
    comm_plan = PlanCommunicator(environment, options, *setup, Deadline::After(clock, kAgreeMs));
  });
  AgreeOn(environment, ModelText(*setup));
  AgreeOnCache(environment, options, *setup);
  setup->group = comm::MakeCommunicator(environment, comm_plan);
  RunOnAllRanks(environment, Deadline::After(clock, 2 * options.step_timeout_ms), [&] {
    MakeMember(options, clock, std::move(on_logits), std::move(on_input), *setup);
  });
  LogMemory(environment, *setup);
  return setup;
}

}  // namespace shoal::rank
