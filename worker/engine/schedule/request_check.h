#pragma once

// Checks a request before the scheduler sees it.

#include <cstdint>

#include "transport/base/generation/sequence_request.h"

namespace shoal::engine {

// Errors: kInvalidArgument, naming the parameter, its value and its range; also for an empty
// prompt, for tokens outside [0, vocab_size), and for an answer that has ended already: it has all
// its tokens, or a stop id.
void CheckRequest(const SequenceRequest& request, int64_t vocab_size);

}  // namespace shoal::engine
