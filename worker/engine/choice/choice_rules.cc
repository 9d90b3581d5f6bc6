// Only tokens that a rule names are touched, so the cost is that of the sequence's distinct tokens;
// a grammar's mask alone visits the whole range.

#include "worker/engine/choice/choice_rules.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "transport/base/check.h"

namespace shoal::engine {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();

// Rounds once, and stays finite: only extreme penalties reach the largest float.
float RoundFinite(double x) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(x, -kMax, kMax));
}

// One range of the vocabulary under the rules of one choice.
class Editor {
 public:
  Editor(std::span<float> logits, int32_t first_token, const ChoiceRules& rules)
      : logits_(logits), first_token_(first_token), rules_(rules) {}

  void Penalize() {
    const SamplingParams& sampling = rules_.sampling;
    for (const TokenHistory::Seen& seen : rules_.history->seen()) {
      float* const logit = Find(seen.token);
      if (logit == nullptr || (!seen.in_prompt && seen.generated == 0)) continue;
      double x = *logit;
      x = x > 0 ? x / sampling.repetition_penalty : x * sampling.repetition_penalty;
      x = x - static_cast<double>(seen.generated) * sampling.frequency_penalty;
      if (seen.generated > 0) x = x - sampling.presence_penalty;
      *logit = RoundFinite(x);
    }
  }

  void AddBias() {
    for (const LogitBias& entry : rules_.sampling.logit_bias) {
      float* const logit = Find(entry.token);
      if (logit != nullptr) *logit = RoundFinite(double{*logit} + double{entry.bias});
    }
  }

  void Withhold() {
    for (const int32_t token : rules_.withheld) {
      float* const logit = Find(token);
      if (logit == nullptr || *logit == kRemoved) continue;  // Named twice.
      withheld_.push_back({logit, *logit});
      *logit = kRemoved;
    }
  }

  void ApplyMask() {
    SHOAL_CHECK(
        (static_cast<size_t>(first_token_) + logits_.size() + 63) / 64 <= rules_.allowed.size(),
        "a mask of ", rules_.allowed.size(), " words, tokens from ", first_token_);
    for (size_t i = 0; i < logits_.size(); ++i) {
      if (!IsAllowed(static_cast<size_t>(first_token_) + i)) logits_[i] = kRemoved;
    }
  }

  // Gives withheld tokens back if there is no other.
  RangeLeft Finish() {
    if (AnyLeft()) return RangeLeft::kTokens;
    for (const auto& [logit, value] : withheld_) {
      if (IsAllowed(static_cast<size_t>(first_token_ + (logit - logits_.data())))) *logit = value;
    }
    return AnyLeft() ? RangeLeft::kOnlyWithheld : RangeLeft::kNothing;
  }

 private:
  struct Withheld {
    float* logit;
    float value;
  };

  float* Find(int32_t token) const {
    const int64_t index = int64_t{token} - first_token_;
    const bool here = index >= 0 && index < static_cast<int64_t>(logits_.size());
    return here ? logits_.data() + index : nullptr;
  }
  bool IsAllowed(size_t token) const {
    return rules_.allowed.empty() || (rules_.allowed[token / 64] >> (token % 64) & 1) != 0;
  }
  bool AnyLeft() const {
    return std::any_of(logits_.begin(), logits_.end(), [](float x) { return x != kRemoved; });
  }

  const std::span<float> logits_;
  const int32_t first_token_;
  const ChoiceRules& rules_;
  std::vector<Withheld> withheld_;
};

}  // namespace

bool HasPenalties(const SamplingParams& sampling) {
  return sampling.repetition_penalty != 1 || sampling.frequency_penalty != 0 ||
         sampling.presence_penalty != 0;
}

RangeLeft EditLogits(std::span<float> logits, int32_t first_token, const ChoiceRules& rules) {
  Editor editor(logits, first_token, rules);
  if (rules.history != nullptr) editor.Penalize();
  editor.AddBias();
  editor.Withhold();
  if (!rules.allowed.empty()) editor.ApplyMask();
  return editor.Finish();
}

}  // namespace shoal::engine
