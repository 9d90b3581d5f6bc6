#pragma once

// Measures a group without a coordinator: prefill, decode, and decode of several sequences at once,
// also as fractions of what the machine can do (`shoal-worker bench engine`).

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "worker/rank/group_setup.h"

namespace shoal::rank {

struct BenchOptions {
  int64_t prompt_tokens = 512;
  int64_t decode_tokens = 64;
  int64_t context_tokens = 128;            // Tokens in the cache before decoding is timed.
  std::vector<int64_t> batches = {4, 16};  // Beside one sequence; those that can run at once.
  int32_t repeat = 3;  // Each figure is the median of as many, after one that is not counted.
};

// Collective. Result: on rank 0 one JSON object with
//   ranks, threads, instruction_set, prefill_tokens_per_second, decode_tokens_per_second_batch_N,
//   streaming_read_bytes_per_second  of all ranks' threads at once, each over its weights' bytes,
//                                    in turns with single decode
//   streaming_read_fraction          weight bytes per second of single decode, of the read after it
//   dot_ops_per_second               of all ranks' threads at once
//   dot_product_fraction             the weights' multiply-additions per second in prefill, of that
//   all_reduce_seconds               the mean of an all-reduce of one row's sums over all ranks
// elsewhere null.
nlohmann::ordered_json BenchEngine(GroupSetup& setup, const WorkerOptions& options,
                                   const BenchOptions& bench, const Clock& clock);

}  // namespace shoal::rank
