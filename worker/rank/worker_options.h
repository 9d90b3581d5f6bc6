#pragma once

// The flags of a rank.

#include <cstdint>
#include <string>

#include "kernels/format/packed.h"
#include "parallel/comm/make_communicator.h"
#include "transport/config/options.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/forward/numerics.h"

namespace shoal::rank {

struct WorkerOptions {
  std::string model;
  std::string coordinator;
  int32_t tensor_parallel = 1;
  int32_t pipeline_parallel = 1;
  int32_t threads = 0;             // 0: cores / ranks on this machine.
  int64_t context_tokens_max = 0;  // 0: the model's.
  int64_t kv_cache_tokens = 0;     // 0: see DefaultCacheTokens.
  int64_t kv_cache_bytes_max = 0;  // Bounds either; 0: no bound of the user's.
  KvDType kv_dtype = KvDType::kF16;
  forward::Numerics numerics = forward::Numerics::kExact;
  // What flags say of it; the rest follows from the model, the cut and the memory.
  engine::SchedulerOptions scheduler{.speculation_tokens_max = 8, .prefix_cache = true};
  bool speculation = true;  // Otherwise no token is guessed, whatever speculation_tokens_max.
  comm::CommKind comm = comm::CommKind::kAuto;
  int64_t memory_bytes_max = 0;  // 0: this rank's share of what the machine has available.
  int64_t join_timeout_ms = 30'000;
  int64_t step_timeout_ms = 60'000;
  std::string group_token_file;
  int64_t group_number = -1;  // -1: any that is free.
};

// The flags that say how a model is cut and run; `verify` and benchmarks have them too.
void AddGroupOptions(config::OptionTable& table, WorkerOptions& options);

// All flags of a rank that serves.
config::OptionTable MakeWorkerTable(WorkerOptions& options);

// The flags that all ranks of a group must share, as FindDifference takes them: all but those that
// speak of the rank's own machine.
std::string GroupOptionsText(const WorkerOptions& options);

}  // namespace shoal::rank
