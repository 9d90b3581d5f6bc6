#pragma once

// The canary: one token that goes through all ranks of a group before it takes requests.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::core {

// `prompt` is cut to fit a toy vocabulary or context.
Request MakeCanary(std::vector<int32_t> prompt, const RankRegistration& shape);

// What is wrong with a canary that has ended by `update` after `tokens` tokens; empty if nothing.
std::string FindCanaryFault(int64_t tokens, const SequenceUpdate& update);

}  // namespace shoal::core
