#pragma once

// What a request is answered with, known without running it: a function of the version of the
// model, the prompt, the parameters, and what was generated before.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::core::net_sim {

constexpr int32_t kVocabSize = 100;
constexpr int64_t kContextTokens = 96;
// A prompt that begins with it brings down whoever works on it.
constexpr int32_t kPoison = 99;

// Where a generation stands: prompt and tokens so far are all that the next one depends on.
class TwinState {
 public:
  TwinState(const std::string& numerics_id, const std::vector<int32_t>& prompt,
            const GenerationParams& params);

  // The next token. It is not at its end.
  int32_t Next();
  // As if Next had said so.
  void Absorb(int32_t token);
  // Of what comes next, or came last, for `top` others.
  TokenLogprobs Logprobs(int32_t top) const;
  FinishReason finish() const { return finish_; }
  const std::string& detail() const { return detail_; }

 private:
  uint64_t hash_;
  int64_t count_ = 0;
  int64_t tokens_max_;
  FinishReason finish_ = FinishReason::kNone;
  std::string detail_;
};

// The log-probabilities of prompt[1..].
std::vector<TokenLogprobs> PromptLogprobs(const std::string& numerics_id,
                                          const std::vector<int32_t>& prompt,
                                          const GenerationParams& params);

// The whole of it, as a client is to have it.
struct Twin {
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;  // As long as tokens if asked for, else empty.
  std::vector<TokenLogprobs> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string detail;
};
Twin MakeTwin(const std::string& numerics_id, const std::vector<int32_t>& prompt,
              const GenerationParams& params);

// The first thing in which an update differs from the twin, for whoever has had that much before;
// empty if it goes on exactly there.
std::string FindDifference(const Twin& twin, size_t tokens_before, size_t prompt_logprobs_before,
                           const SequenceUpdate& update);

// What a canary comes to for groups of that version.
std::string CanaryDigestOf(const RankRegistration& rank, const std::vector<int32_t>& prompt);

}  // namespace shoal::core::net_sim
