#pragma once

// A request as a group is given it: what to generate, and what has come of it already.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/generation/stream_id.h"
#include "transport/base/overload/service_class.h"

namespace shoal {

// SequenceUpdate::detail of a sequence that its leader ended because its deadline was over.
inline constexpr std::string_view kDeadlineOver = "its deadline is over";

// Plain data. With `generated` a group goes on where another one stopped: its sequence begins with
// the prompt and those tokens, and everything that counts tokens counts them as its own answer's
// (tokens_max, min_tokens, penalties, the grammar, the noise of sampling).
struct SequenceRequest {
  uint64_t id = 0;                   // Of the sequence, drawn by the coordinator; never used again.
  std::vector<int32_t> prompt{};     // Not empty.
  GenerationParams params{};         // With the effective seed.
  std::vector<int32_t> generated{};  // Fewer than params.tokens_max, or none.
  // The prompt's log-probabilities are there: they are not computed again.
  bool prompt_logprobs_given = false;
  StreamId stream{};       // Whose sequence it is; zero for a canary.
  bool resumable = false;  // The leader holds all that came of it, for another coordinator.
  // Before params.priority: lower classes first.
  ServiceClass service_class = ServiceClass::kCritical;
  int64_t deadline_ms = 0;  // From its submission on; then it is cancelled. 0: none.
  std::string tenant{};     // Whose it is; empty: the default one.

  bool operator==(const SequenceRequest&) const = default;
};

// A stream whose leader has held it while there was no coordinator.
struct HeldStream {
  SequenceRequest request;
  SequenceUpdate all{};  // All that came of it after request.generated; its end too.

  bool operator==(const HeldStream&) const = default;
};

}  // namespace shoal
