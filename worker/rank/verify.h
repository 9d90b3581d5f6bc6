#pragma once

// Digests that every cut, batch and instruction set must print alike (`shoal verify`).

#include <string>

#include "kernels/device/thread_team.h"
#include "parallel/comm/communicator.h"
#include "parallel/model/model.h"
#include "transport/base/clock.h"
#include "worker/rank/group_member.h"

namespace shoal::rank {

struct VerifyDigests {
  std::string logits;  // XXH3-128 of the little-endian f32 logits, position-major.
  std::string
      sampled;  // XXH3-128 of 64 int32 token ids: temperature 0.8, seed 1, no end-of-sequence.
  std::string numerics_id;

  bool operator==(const VerifyDigests&) const = default;
};

// Collective. The prompts are a function of the model alone: 1, 7, 33 and 290 ids drawn by Philox
// from the vocabulary, shortened to what the context leaves room for. All are run alone, one after
// the other; the second one is then continued by sampling.
//
// Result: on rank 0 the digests, elsewhere empty strings.
VerifyDigests ComputeDigests(const model::Model& model, const GroupMemberOptions& options,
                             const cpu::KernelTable& kernels, device::ThreadTeam& team,
                             const Clock& clock, comm::Communicator& group);

}  // namespace shoal::rank
