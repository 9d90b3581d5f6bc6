#pragma once

// Guesses how a sequence goes on from what it said before, and judges whether guessing pays.
//
// A draft is what followed the last earlier occurrence of the sequence's last few tokens, in its
// prompt or its answer. Nothing here changes an answer, only how many rows its tokens take.

#include <cstdint>
#include <span>
#include <vector>

namespace shoal::engine {

// The last so many tokens must have occurred before.
constexpr size_t kLookupTokens = 3;

// At most `count_max` tokens; none if there is no earlier occurrence.
// Cost: one pass over the tokens, backwards from the end.
std::vector<int32_t> LookUpDraft(std::span<const int32_t> tokens, int64_t count_max);

// Decides from counts alone how many tokens of one sequence to draft.
//
// Drafts grow while they are accepted and shrink when they are not. When less than a quarter of the
// last ones was accepted, drafting pauses for some tokens; then one or two drafted tokens decide
// whether it goes on or pauses for twice as long.
class DraftGauge {
 public:
  // How many tokens to draft now; 0 while it pauses.
  int64_t limit() const { return pause_left_ > 0 ? 0 : limit_; }
  // To be called after every step: of `drafted` tokens `accepted` were right, and one more than
  // those was generated.
  void Note(int64_t drafted, int64_t accepted);

 private:
  int64_t limit_ = 2;
  int64_t drafted_ = 0;  // Both are halved now and then, so that recent steps count most.
  int64_t accepted_ = 0;
  int64_t pause_ = 64;  // Tokens that the next pause lasts.
  int64_t pause_left_ = 0;
};

}  // namespace shoal::engine
