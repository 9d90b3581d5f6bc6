#pragma once

// Checks a request before the scheduler sees it.

#include <cstdint>
#include <span>

#include "transport/base/generation/generation.h"

namespace shoal::engine {

// Errors: kInvalidArgument, naming the parameter, its value and its range; also for an empty prompt
// and for tokens outside [0, vocab_size).
void CheckRequest(std::span<const int32_t> prompt, const GenerationParams& params,
                  int64_t vocab_size);

}  // namespace shoal::engine
