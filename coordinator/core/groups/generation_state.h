#pragma once

// A request that a leader was given, or will be, and what has come of it so far.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "transport/base/generation/generation.h"

namespace shoal::core {

// What this coordinator calls a stream, or a canary, to a group's leader; never used again.
using SequenceId = uint64_t;

// Plain data with the questions that only concern one request.
struct GenerationState {
  GenerationState() = default;
  // Of which nothing has come.
  explicit GenerationState(Request granted);

  // What is wrong with the next update; empty if nothing.
  std::string FindFault(const SequenceUpdate& update) const;
  // The update is as FindFault wants it.
  void Apply(const SequenceUpdate& update);

  Request request;                   // As it was granted, with its seed.
  std::vector<int32_t> tokens;       // So far.
  int64_t prompt_logprobs_left = 0;  // Positions that its leader has not reported.
};

}  // namespace shoal::core
