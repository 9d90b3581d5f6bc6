#pragma once

// The canary: a request that goes through all ranks of a group before the group takes others, and
// whose answer must be, bit by bit, that of the other groups of the same key.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/streams/generation_state.h"
#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::core {

// Asks what MakeCanary (transport/base/generation) asks.
struct Canary : GenerationState {
  Canary() = default;
  // `prompt` and answer are cut to fit a toy vocabulary or context.
  Canary(SequenceId name, std::vector<int32_t> prompt, const RankRegistration& shape);

  void Apply(const SequenceUpdate& update);

  // What is wrong with it now that it has ended by `last`; empty if nothing.
  std::string FindBadEnd(const SequenceUpdate& last) const;
  // CanaryDigest of all that it has brought. How it came in parts does not matter.
  std::string Digest() const;

  SequenceId sequence = 0;
  std::vector<TokenLogprobs> logprobs;  // Of the prompt, then of the answer.
};

// Why a group whose canary came to `digest` may not serve `key`; empty if it may. `expected`: what
// it must come to; empty: nobody knows yet.
std::string FindDigestFault(const ModelKey& key, const std::string& digest,
                            const std::string& expected);

}  // namespace shoal::core
