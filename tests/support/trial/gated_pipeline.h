#pragma once

// A pipeline that only gets on if as many plans are under way as it has stages.

#include <atomic>
#include <cstdint>
#include <string>

#include "parallel/comm/communicator.h"
#include "parallel/model/model.h"

namespace shoal::test {

struct GatedPipelineOptions {
  int32_t stages = 1;
  int32_t rows = 0;  // Of each decode plan.
  bool gated = true;
};

// Collective. Generates with plans and results that are larger than what links buffer, while the
// last stage does not finish a plan before the first has begun the last one that may be under way
// beside it. `begun` is one number for all ranks, 0 at first. Result: on rank 0 a digest of tokens
// and log-probabilities, a function of stages * rows alone. Errors: kDeadlineExceeded, naming the
// plan, if the first stage does not get that far; those of the communicator.
std::string RunGatedPipeline(const model::Model& model, comm::Communicator& group,
                             std::atomic<int64_t>& begun, const GatedPipelineOptions& options);

}  // namespace shoal::test
