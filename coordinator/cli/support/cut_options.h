#pragma once

// The flags that several verbs share: a model and how it is cut over ranks.

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "transport/config/options.h"

namespace shoal::cli {

// What planning the cut needs. All of its flags are group flags (transport/config/group_flags.h),
// so that config::GroupArguments tells a worker of them.
struct CutOptions {
  std::string model;
  int32_t tensor_parallel = 1;
  int32_t pipeline_parallel = 1;
  KvDType kv_dtype = KvDType::kF16;
  int64_t kv_cache_tokens = 0;   // 0: as --kv-cache-bytes-max says.
  int64_t memory_bytes_max = 0;  // Per rank; 0: its share of what there is.

  int64_t rank_count() const { return int64_t{tensor_parallel} * pipeline_parallel; }
};

// MODEL, --tensor-parallel, --pipeline-parallel.
void AddCut(config::OptionTable& table, CutOptions& options);
// --kv-cache-tokens, --kv-dtype.
void AddCache(config::OptionTable& table, CutOptions& options);
// --kv-cache-bytes-max, --memory-bytes-max.
void AddMemory(config::OptionTable& table, CutOptions& options);

// How the model would be cut. Errors: those of plan::PlanCut.
std::vector<plan::RankShard> Plan(const model::Model& model, const CutOptions& options);

// For flags of a worker: {"--repeat", "2"}.
void AppendFlag(std::vector<std::string>& arguments, const std::string& flag, int64_t value);

}  // namespace shoal::cli
