#include "coordinator/cli/support/cut_options.h"

#include "transport/config/group_flags.h"

namespace shoal::cli {

void AddCut(config::OptionTable& table, CutOptions& options) {
  table.AddPositional("model", options.model, "A GGUF file or a safetensors folder.");
  config::AddGroupFlag(table, "tensor-parallel", options.tensor_parallel);
  config::AddGroupFlag(table, "pipeline-parallel", options.pipeline_parallel);
}

void AddCache(config::OptionTable& table, CutOptions& options) {
  config::AddGroupFlag(table, "kv-cache-tokens", options.kv_cache_tokens);
  config::AddGroupFlag(table, "kv-dtype", options.kv_dtype,
                       {KvDType::kF16, KvDType::kF32, KvDType::kBF16, KvDType::kInt8});
}

void AddMemory(config::OptionTable& table, CutOptions& options) {
  config::PassGroupFlag(table, "kv-cache-bytes-max");
  config::AddGroupFlag(table, "memory-bytes-max", options.memory_bytes_max);
}

std::vector<plan::RankShard> Plan(const model::Model& model, const CutOptions& options) {
  return plan::PlanCut(model, {.cut = {.tensor_parallel = options.tensor_parallel,
                                       .pipeline_parallel = options.pipeline_parallel},
                               .rank_speeds = {},
                               .kv_dtype = options.kv_dtype,
                               .memory_bytes_max = options.memory_bytes_max,
                               .kv_cache_tokens = options.kv_cache_tokens});
}

void AppendFlag(std::vector<std::string>& arguments, const std::string& flag, int64_t value) {
  arguments.push_back(flag);
  arguments.push_back(std::to_string(value));
}

}  // namespace shoal::cli
