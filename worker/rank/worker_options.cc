// The list that flags, configuration keys and --help come from.

#include "worker/rank/worker_options.h"

#include <set>

#include "transport/base/check.h"
#include "transport/config/group_flags.h"

namespace shoal::rank {
namespace {

constexpr const char* kEpilog = R"(Environment:
  SHOAL_FORCE_ISA  scalar, avx2, avx512vnni or amx: use these kernels, or exit 4 if they cannot run.
  SHOAL_LOG        A comma list of debug, info, warn or error, and json. [info]

Other verbs; those with MODEL have a --help of their own:
  shoal-worker kernels             Print the function table of each instruction set.
  shoal-worker verify MODEL        Print digests that every cut and instruction set must share.
  shoal-worker perplexity MODEL    Print how well a model predicts a text.
  shoal-worker convert MODEL OUT   Write a model in another weight format.
  shoal-worker bench engine MODEL  Measure prefill and decode, without a coordinator.

Exit status:
  0  dismissed by the coordinator, or SIGTERM (drained first) or SIGINT
  1  failed while running
  2  wrong usage or configuration, a bad or oversized model, more ranks than leaves
  3  could not join the cluster in time
  4  the instruction set asked for is not there

Example, with a coordinator at port 7400:
  mpirun -np 2 shoal-worker --model model.gguf --coordinator 127.0.0.1:7400 --tensor-parallel 2
)";

}  // namespace

void AddGroupOptions(config::OptionTable& table, WorkerOptions& options) {
  config::AddGroupFlag(table, "tensor-parallel", options.tensor_parallel);
  config::AddGroupFlag(table, "pipeline-parallel", options.pipeline_parallel);
  config::AddGroupFlag(table, "threads", options.threads);
  config::AddGroupFlag(table, "context-tokens-max", options.context_tokens_max);
  config::AddGroupFlag(table, "kv-cache-tokens", options.kv_cache_tokens);
  config::AddGroupFlag(table, "kv-cache-bytes-max", options.kv_cache_bytes_max);
  config::AddGroupFlag(table, "kv-dtype", options.kv_dtype,
                       {KvDType::kF16, KvDType::kF32, KvDType::kBF16, KvDType::kInt8});
  config::AddGroupFlag(table, "numerics", options.numerics,
                       {forward::Numerics::kExact, forward::Numerics::kFast});
  config::AddGroupFlag(table, "prefill-chunk-tokens", options.scheduler.prefill_chunk_tokens);
  config::AddGroupFlag(table, "sequences-max", options.scheduler.sequences_max);
  config::AddGroupFlag(
      table, "comm", options.comm,
      {comm::CommKind::kAuto, comm::CommKind::kShm, comm::CommKind::kTcp, comm::CommKind::kMpi});
  config::AddGroupFlag(table, "memory-bytes-max", options.memory_bytes_max);
  table.AddInt("step-timeout-ms", "N", options.step_timeout_ms, {1, INT32_MAX},
               "A step that takes longer ends the group.");
}

config::OptionTable MakeWorkerTable(WorkerOptions& options) {
  config::OptionTable table(
      {.program = "shoal-worker",
       .usage = "--model MODEL --coordinator HOST:PORT [options]",
       .summary = "Runs one rank of a group: loads its part of the model, joins the cluster, and "
                  "computes steps until the coordinator dismisses it or SIGTERM arrives. Start one "
                  "for each rank with mpirun; a group of one needs no mpirun. Serves no clients "
                  "itself.",
       .epilog = kEpilog});
  table.AddString("model", "MODEL", options.model, "A GGUF file or a safetensors folder.")
      .required = true;
  table
      .AddString("coordinator", "HOST:PORT", options.coordinator,
                 "Where to join. Dials again until --join-timeout-ms.")
      .required = true;
  AddGroupOptions(table, options);
  engine::SchedulerOptions& scheduler = options.scheduler;
  table.AddInt("queue-requests-max", "N", scheduler.requests_waiting_max, {0, 1 << 20},
               "Requests that wait for a sequence's place; more are refused.");
  config::AddGroupFlag(table, "prefix-cache", scheduler.prefix_cache, {true, false});
  config::AddGroupFlag(table, "speculation", options.speculation, {false, true});
  config::AddGroupFlag(table, "speculation-tokens-max", scheduler.speculation_tokens_max);
  config::AddGroupFlag(table, "batch-policy", scheduler.batch_policy,
                       {engine::BatchPolicy::kContinuous, engine::BatchPolicy::kThreshold});
  config::AddGroupFlag(table, "batch-queue-min", scheduler.batch_queue_min);
  config::AddGroupFlag(table, "batch-delay-max-ms", scheduler.batch_delay_max_ms);
  table.AddInt("join-timeout-ms", "N", options.join_timeout_ms, {1, INT32_MAX},
               "Give up joining, or joining again, after this long.");
  table.AddString("group-token-file", "FILE", options.group_token_file,
                  "A secret that this group shares with the coordinator, one line.");
  table.AddInt("group-number", "N", options.group_number, {-1, INT32_MAX},
               "Which of the groups that the coordinator manages it is. -1: none of them.");
  return table;
}

std::string GroupOptionsText(const WorkerOptions& options) {
  static const std::set<std::string> kOwn = {
      "model",           "coordinator",     "threads", "kv-cache-bytes-max", "memory-bytes-max",
      "join-timeout-ms", "group-token-file"};
  // A table's defaults are the values that its fields have when it is made.
  WorkerOptions values = options;
  const config::OptionTable table = MakeWorkerTable(values);
  std::string text;
  for (const config::Option& option : table.options()) {
    if (!kOwn.contains(option.name)) text += Str(option.name, "=", option.default_text, "\n");
  }
  return text;
}

}  // namespace shoal::rank
