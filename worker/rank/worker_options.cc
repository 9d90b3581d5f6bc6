// The list that flags, configuration keys and --help come from.

#include "worker/rank/worker_options.h"

#include <set>

#include "transport/base/check.h"

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
  0  dismissed by the coordinator, or SIGTERM
  1  failed while running
  2  wrong usage or configuration, a bad or oversized model, more ranks than leaves
  3  could not join the cluster in time
  4  the instruction set asked for is not there

Example, with a coordinator at port 7400:
  mpirun -np 2 shoal-worker --model model.gguf --coordinator 127.0.0.1:7400 --tensor-parallel 2
)";

}  // namespace

void AddGroupOptions(config::OptionTable& table, WorkerOptions& options) {
  table.AddInt("tensor-parallel", "N", options.tensor_parallel, {1, 4096},
               "Ranks that share each layer.");
  table.AddInt(
      "pipeline-parallel", "N", options.pipeline_parallel, {1, 4096},
      "Stages that the layers are dealt to. Tensor times pipeline is the number of ranks.");
  table.AddInt("threads", "N", options.threads, {0, 4096},
               "Threads of this rank's kernels. 0: cores / ranks on this machine.");
  table.AddInt("context-tokens-max", "N", options.context_tokens_max, {0, INT32_MAX},
               "Longest sequence, prompt and answer. 0: the model's.");
  table.AddInt(
      "kv-cache-tokens", "N", options.kv_cache_tokens, {0, INT32_MAX},
      "Positions that the KV cache holds, all sequences together. 0: every sequence at full "
      "length, within 1 GiB a rank (or one sequence, or the weights' size, if more) and half of "
      "the free memory.");
  table.AddInt("kv-cache-bytes-max", "N", options.kv_cache_bytes_max, {0, INT64_MAX},
               "Upper bound for this rank's KV cache. 0: that of --kv-cache-tokens.");
  table.AddChoice<KvDType>(
      "kv-dtype", options.kv_dtype,
      {{"f16", KvDType::kF16},
       {"f32", KvDType::kF32},
       {"bf16", KvDType::kBF16},
       {"int8", KvDType::kInt8}},
      "What keys and values are rounded to. int8: with one scale for each key and value, in "
      "half the memory of f16. Part of the numerics id.");
  table.AddChoice<forward::Numerics>(
      "numerics", options.numerics,
      {{"exact", forward::Numerics::kExact}, {"fast", forward::Numerics::kFast}},
      "How sums cross a cut. exact: the same bits for every cut. fast: half the bytes between "
      "ranks, other bits for every cut. Part of the numerics id.");
  table.AddInt("prefill-chunk-tokens", "N", options.prefill_chunk_tokens, {1, 1 << 20},
               "Prompt positions of one step, all sequences together.");
  table.AddInt("sequences-max", "N", options.sequences_max, {1, 1 << 16},
               "Sequences that run at once.");
  table.AddChoice<comm::CommKind>(
      "comm", options.comm,
      {{"auto", comm::CommKind::kAuto},
       {"shm", comm::CommKind::kShm},
       {"tcp", comm::CommKind::kTcp},
       {"mpi", comm::CommKind::kMpi}},
      "How ranks reach each other. auto: shm on one machine, else tcp.");
  table.AddInt(
      "memory-bytes-max", "N", options.memory_bytes_max, {0, INT64_MAX},
      "Upper bound for weights, KV cache and activations of this rank. 0: its share of what "
      "the machine has available.");
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
  table.AddInt("queue-requests-max", "N", options.queue_requests_max, {0, 1 << 20},
               "Requests that wait for a sequence's place; more are refused.");
  table.AddChoice<bool>("prefix-cache", options.prefix_cache, {{"on", true}, {"off", false}},
                        "Keep the blocks of ended sequences, and start later ones of the same "
                        "prefix behind them.");
  table.AddChoice<bool>(
      "speculation", options.speculation, {{"off", false}, {"prompt-lookup", true}},
      "Guess the next tokens from what the sequence said before, and verify several "
      "in one step. Changes no answer.");
  table.AddInt("speculation-tokens-max", "N", options.speculation_tokens_max, {1, 16},
               "Tokens that one sequence may guess in a step.");
  table.AddChoice<engine::BatchPolicy>(
      "batch-policy", options.batch_policy,
      {{"continuous", engine::BatchPolicy::kContinuous},
       {"threshold", engine::BatchPolicy::kThreshold}},
      "When waiting requests join the running ones: with the next step, or all at "
      "once when enough of them wait or one has waited long enough.");
  table.AddInt("batch-queue-min", "N", options.batch_queue_min, {0, 1 << 20},
               "With the threshold policy: more than N must wait.");
  table.AddInt("batch-delay-max-ms", "N", options.batch_delay_max_ms, {0, 3'600'000},
               "With the threshold policy: or one has waited for so long.");
  table.AddInt("join-timeout-ms", "N", options.join_timeout_ms, {1, INT32_MAX},
               "Give up joining, or joining again, after this long.");
  table.AddString("group-token-file", "FILE", options.group_token_file,
                  "A secret that this group shares with the coordinator, one line.");
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
