#pragma once

// One rank of a group that serves, in a process of its own, put together as shoal-worker does it
// but without MPI.

#include <cstdint>
#include <string>

#include "kernels/format/packed.h"
#include "parallel/comm/communicator.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"

namespace shoal::test {

// All ranks of a group have the same. Streams do not depend on it, except for kv_dtype.
struct GroupShape {
  plan::Cut cut;
  KvDType kv_dtype = KvDType::kF16;
  int32_t speculation_tokens_max = 0;
  int64_t prefill_chunk_tokens = 64;
  int64_t kv_block_count = 256;
  bool prefix_cache = true;
};

struct RankPlace {
  uint64_t group_id = 0;    // One for all ranks of a group, never used again.
  std::string coordinator;  // HOST:PORT.
};

// Serves until the group ends. Collective. Errors: as a rank's process has them.
void ServeRank(const model::Model& model, const GroupShape& shape, const RankPlace& place,
               comm::Communicator& group);

}  // namespace shoal::test
