#include "coordinator/cli/support/cut_options.h"

#include "transport/base/error.h"

namespace shoal::cli {

void AddCut(config::OptionTable& table, CutOptions& options) {
  table.AddPositional("model", options.model, "A GGUF file or a safetensors folder.");
  table.AddInt("tensor-parallel", "N", options.tensor_parallel, {1, 4096},
               "Ranks that share each layer.");
  table.AddInt(
      "pipeline-parallel", "N", options.pipeline_parallel, {1, 4096},
      "Stages that the layers are dealt to. Tensor times pipeline is the number of ranks.");
}

void AddCache(config::OptionTable& table, CutOptions& options) {
  table.AddInt("kv-cache-tokens", "N", options.kv_cache_tokens, {0, INT32_MAX},
               "Positions that the KV cache holds, all sequences together. 0: every sequence at "
               "full length, within 1 GiB a rank (or one sequence, or the weights' size, if more) "
               "and half of the free memory.");
  table.AddChoice<KvDType>(
      "kv-dtype", options.kv_dtype,
      {{"f16", KvDType::kF16},
       {"f32", KvDType::kF32},
       {"bf16", KvDType::kBF16},
       {"int8", KvDType::kInt8}},
      "What keys and values are rounded to. int8: with one scale for each key and value, in "
      "half the memory of f16. Part of the numerics id.");
}

void AddNumerics(config::OptionTable& table, CutOptions& options) {
  table.AddChoice<std::string>("numerics", options.numerics, {{"exact", "exact"}, {"fast", "fast"}},
                               "How sums cross a cut. exact: the same bits for every cut. fast: "
                               "half the bytes between ranks, other bits for every cut. Part of "
                               "the numerics id.");
}

void AddMemory(config::OptionTable& table, CutOptions& options) {
  table.AddInt("kv-cache-bytes-max", "N", options.kv_cache_bytes_max, {0, INT64_MAX},
               "Upper bound for the KV cache of each rank. 0: that of --kv-cache-tokens.");
  table.AddInt("memory-bytes-max", "N", options.memory_bytes_max, {0, INT64_MAX},
               "Upper bound for weights, KV cache and activations of each rank. 0: its share of "
               "what the machine has available.");
}

std::vector<plan::RankShard> Plan(const model::Model& model, const CutOptions& options) {
  return plan::PlanCut(model, {.cut = {.tensor_parallel = options.tensor_parallel,
                                       .pipeline_parallel = options.pipeline_parallel},
                               .rank_speeds = {},
                               .kv_dtype = options.kv_dtype,
                               .memory_bytes_max = options.memory_bytes_max,
                               .kv_cache_tokens = options.kv_cache_tokens});
}

std::vector<std::string> WorkerArguments(const CutOptions& options) {
  std::vector<std::string> arguments;
  AppendFlag(arguments, "--tensor-parallel", options.tensor_parallel);
  AppendFlag(arguments, "--pipeline-parallel", options.pipeline_parallel);
  arguments.insert(arguments.end(), {"--kv-dtype", std::string(ToString(options.kv_dtype)),
                                     "--numerics", options.numerics});
  AppendFlag(arguments, "--kv-cache-tokens", options.kv_cache_tokens);
  AppendFlag(arguments, "--kv-cache-bytes-max", options.kv_cache_bytes_max);
  AppendFlag(arguments, "--memory-bytes-max", options.memory_bytes_max);
  return arguments;
}

void AppendFlag(std::vector<std::string>& arguments, const std::string& flag, int64_t value) {
  arguments.push_back(flag);
  arguments.push_back(std::to_string(value));
}

}  // namespace shoal::cli
