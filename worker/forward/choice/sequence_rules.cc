#include "worker/forward/choice/sequence_rules.h"

#include <span>

namespace shoal::forward {

SequenceRules::SequenceRules(const model::Model& model, const SequenceTable& sequences,
                             int32_t sequences_max)
    : sequences_(sequences),
      histories_(sequences_max),
      grammar_cache_([&model] { return text::grammar::GrammarVocabulary::Make(model); }),
      grammars_(sequences_max) {}

void SequenceRules::CheckGrammar(const GrammarSource& source) {
  if (source.kind != GrammarKind::kNone) static_cast<void>(grammar_cache_.Get(source));
}

void SequenceRules::Apply(const engine::StepPlan& plan) {
  for (const uint32_t slot : plan.ends) grammars_[slot].reset();
  for (const engine::SequenceStart& start : plan.starts) {
    const GrammarSource& source = start.params.grammar;
    if (source.kind != GrammarKind::kNone) {
      grammars_[start.slot].emplace(grammar_cache_.Get(source));
    }
  }
}

engine::ChoiceRules SequenceRules::Of(const Row& row) {
  const SequenceState& sequence = sequences_.at(row.slot);
  const SamplingParams& sampling = sequence.params.sampling;
  const int64_t position = row.position + 1;
  const std::span<const int32_t> tokens = std::span(sequence.tokens).first(position);
  engine::ChoiceRules rules = {.sampling = sampling, .position = static_cast<uint32_t>(position)};
  if (engine::HasPenalties(sampling)) {
    engine::TokenHistory& history = histories_[row.slot];
    history.Follow(tokens, sequence.prompt_count);
    rules.history = &history;
  }
  if (position - sequence.prompt_count < sampling.min_tokens) {
    rules.withheld = sequence.params.stop_ids;
  }
  if (std::optional<engine::GrammarState>& grammar = grammars_[row.slot]) {
    rules.allowed = grammar->Allowed(tokens.subspan(sequence.prompt_count));
  }
  return rules;
}

bool SequenceRules::HasState(uint32_t slot) const {
  return engine::HasPenalties(sequences_.at(slot).params.sampling) || grammars_[slot].has_value();
}

}  // namespace shoal::forward
