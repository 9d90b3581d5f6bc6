// Each phase ends with the ranks' agreement, so that none waits for one that has given up.

#include "worker/rank/group_setup.h"

#include <glog/logging.h>

#include <algorithm>
#include <string>

#include "parallel/comm/make_communicator.h"
#include "transport/base/cores.h"
#include "transport/base/error.h"
#include "transport/rpc/secret.h"
#include "worker/rank/agreement.h"
#include "worker/rank/local_address.h"
#include "worker/rank/memory_budget.h"

namespace shoal::rank {
namespace {

// For phases that only read headers and compute.
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
                    const GroupSetup& setup) {
  const int64_t context = options.context_tokens_max > 0 ? options.context_tokens_max
                                                         : setup.model->config().context_tokens;
  const MemoryNeeds needs =
      ComputeNeeds(setup.model->config(), setup.shards[static_cast<size_t>(environment.rank())],
                   {.tensor_parallel = options.tensor_parallel,
                    .rows_max = options.prefill_chunk_tokens + options.sequences_max,
                    .context_tokens = context,
                    .threads = setup.threads});
  const int64_t available = options.memory_bytes_max > 0
                                ? options.memory_bytes_max
                                : ReadAvailableBytes() / environment.local_size();
  if (options.kv_cache_tokens > 0) {
    const int64_t tokens =
        (options.kv_cache_tokens + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
    CheckMemory(environment.rank(), needs, available, tokens);
    return tokens;
  }
  // A context that was asked for must fit; the model's own is cut to what does.
  const int64_t least = options.context_tokens_max > 0 ? context : kKvBlockTokens;
  return DefaultCacheTokens(environment.rank(), needs, available, context * options.sequences_max,
                            least);
}

// The smallest of all ranks' caches: a block of the scheduler is a block of every rank.
void AgreeOnCache(comm::MpiEnvironment& environment, const WorkerOptions& options,
                  GroupSetup& setup) {
  int64_t tokens = 0;
  const Deadline deadline = Deadline::After(SteadyClock(), kAgreeMs);
  Together(environment, deadline, [&] { tokens = BudgetCache(environment, options, setup); });
  for (const std::string& text : environment.AllGather(std::to_string(tokens), deadline)) {
    tokens = std::min<int64_t>(tokens, std::stoll(text));
  }
  setup.cache_tokens = tokens;
  setup.context_tokens = options.context_tokens_max > 0 ? options.context_tokens_max
                                                        : setup.model->config().context_tokens;
  // A cache that memory bounds bounds the context too; one that was asked for bounds requests,
  // which are then refused by the coordinator in the cache's name.
  if (options.context_tokens_max == 0 && options.kv_cache_tokens == 0) {
    setup.context_tokens = std::min(setup.context_tokens, setup.cache_tokens);
  }
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
  member.model.sequences_max = options.sequences_max;
  member.model.prefill_chunk_tokens = options.prefill_chunk_tokens;
  member.model.on_logits = std::move(on_logits);
  member.model.on_input = std::move(on_input);
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
  Together(environment, Deadline::After(clock, kAgreeMs), [&] {
    OpenModel(environment, options, force_isa, *setup);
    comm_plan = PlanCommunicator(environment, options, *setup, Deadline::After(clock, kAgreeMs));
  });
  AgreeOnCache(environment, options, *setup);
  setup->group = comm::MakeCommunicator(environment, comm_plan);
  Together(environment, Deadline::After(clock, 2 * options.step_timeout_ms),
           [&] { MakeMember(options, clock, std::move(on_logits), std::move(on_input), *setup); });
  LOG(INFO) << "rank " << environment.rank() << " of " << environment.size() << ": "
            << setup->kernels->name << ", " << setup->threads << " threads, "
            << setup->member->model().weight_bytes() << " bytes of weights, context "
            << setup->context_tokens << ", KV cache of " << setup->cache_tokens << " tokens";
  return setup;
  AgreeOn(environment, GroupOptionsText(options));
}

}  // namespace shoal::rank
  AgreeOn(environment, ModelText(*setup));
