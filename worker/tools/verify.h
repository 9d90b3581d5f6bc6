#pragma once

// Digests that every cut, batch and instruction set must print alike (`shoal verify`).

#include <xxhash.h>

#include <memory>
#include <span>
#include <string>

#include "worker/rank/group_setup.h"

namespace shoal::rank {

struct VerifyDigests {
  std::string logits;  // XXH3-128 of the little-endian f32 logits, position-major.
  std::string
      sampled;  // XXH3-128 of 64 int32 token ids: temperature 0.8, seed 1, no end-of-sequence.
  std::string numerics_id;

  bool operator==(const VerifyDigests&) const = default;
};

// The digest of the logits, fed as they are computed.
class LogitsDigest {
 public:
  LogitsDigest();
  // The sink to set the group up with. The object outlives the group.
  forward::LogitsSink sink();
  std::string Hex() const;

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

// Collective. The prompts are a function of the model alone: 1, 7, 33 and 290 ids drawn by Philox
// from the vocabulary, shortened to what the model's context leaves room for. All are run alone,
// one after the other; the second one is then continued by sampling.
//
// Result: on rank 0 the digests, elsewhere empty strings. Errors: kInvalidArgument if the group was
// set up with a shorter context than the prompts need.
VerifyDigests ComputeDigests(GroupSetup& setup, const WorkerOptions& options,
                             const LogitsDigest& digest);

// Collective. Result: on rank 0 the digest of the canary that a coordinator sends to its groups,
// elsewhere an empty string.
std::string ComputeCanary(GroupSetup& setup, const WorkerOptions& options);

}  // namespace shoal::rank
