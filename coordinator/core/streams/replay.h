#pragma once

// All that came of a stream, told once more to a client that came back for it.

#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/streams/streams.h"
#include "transport/base/generation/generation.h"

namespace shoal::core {

// In updates of at most 1,024 tokens, or of as many log-probabilities of the prompt. The last one
// has the end, if there was one.
std::vector<SequenceUpdate> Replay(const Stream& stream, const SequenceUpdate* end);

// In what a request that is to go on with the stream differs from the stream's own; empty if in
// nothing. `model_name`: what it names, as ranks register it.
std::string FindRequestDifference(const Request& request, const std::string& model_name,
                                  const Stream& stream);

}  // namespace shoal::core
