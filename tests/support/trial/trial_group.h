#pragma once

// Runs requests through a group of forked ranks and brings back everything that must not depend on
// the cut: tokens, log-probabilities and every logit.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/format/packed.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "tests/support/patience.h"
#include "tests/support/trial/rank_runner.h"
#include "worker/tools/trial.h"

namespace shoal::test {

struct TrialGroupOptions {
  plan::Cut cut;
  std::vector<std::string> isa = {
      ""};  // One for all ranks, or one per rank; "": the best there is.
  int32_t threads = 1;
  KvDType kv_dtype = KvDType::kF16;
  forward::Numerics numerics = forward::Numerics::kExact;
  int64_t prefill_chunk_tokens = 512;
  int64_t sequence_parallel_rows_min = 64;
  int32_t sequences_max = 32;
  int64_t kv_block_count = 512;
  bool prefix_cache = false;
  int32_t speculation_tokens_max = 0;  // Wrong guesses have logits too: without record_logits.
  RankKind kind = RankKind::kShm;
  // Recording makes every rank gather all logits; without it tokens are chosen as in service.
  bool record_logits = true;
  bool keep_logits = false;           // Otherwise only their digests are kept.
  int64_t digest_positions_from = 0;  // Rows before it are not recorded.
  std::optional<forward::PlantedFault> planted_fault{};
  int64_t timeout_ms = kPatienceMs;
};

// Which logits: the request's index and the position of the row.
using LogitsKey = std::pair<uint64_t, int64_t>;

struct Observation {
  std::vector<rank::TrialAnswer> answers;
  std::map<LogitsKey, std::string> digests;        // XXH3-128 of the row's f32 bits, in hex.
  std::map<LogitsKey, std::vector<float>> logits;  // If keep_logits.
  std::string numerics_id;
};

// Errors: kFailed, with every rank's own words, if a rank fails; also if one position's logits are
// computed twice (after a preemption) with different bits.
Observation RunTrialGroup(const model::Model& model, std::span<const rank::TrialRequest> requests,
                          const TrialGroupOptions& options);

}  // namespace shoal::test
