#pragma once

// What the choice of a sequence's next token depends on, beside the logits: its parameters, what it
// has said so far, its grammar.

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/model/model.h"
#include "worker/engine/choice/choice_rules.h"
#include "worker/engine/choice/grammar_states.h"
#include "worker/engine/choice/token_history.h"
#include "worker/engine/step_plan.h"
#include "worker/forward/rows/sequence_table.h"
#include "worker/forward/rows/step_rows.h"

namespace shoal::forward {

// Every rank follows the same tokens, so all apply the same rules, each to its part of the
// vocabulary.
class SequenceRules {
 public:
  SequenceRules(const model::Model& model, const SequenceTable& sequences, int32_t sequences_max);

  // Errors: kInvalidArgument for a grammar that cannot be compiled for this model.
  void CheckGrammar(const GrammarSource& source);

  // Ends and starts grammars as the plan says, which `sequences` has applied. Sequences that go on
  // after a preemption start anew, with the tokens of their answer so far.
  void Apply(const engine::StepPlan& plan);

  // Of the choice after a row; valid until the next call for the same sequence. Threads may ask for
  // different sequences' at once.
  engine::ChoiceRules Of(const Row& row);
  // True if the rules of a sequence's rows must be asked for in order, by one thread.
  bool HasState(uint32_t slot) const;

 private:
  const SequenceTable& sequences_;
  std::vector<engine::TokenHistory> histories_;  // By slot; of sequences with penalties.
  engine::GrammarCache grammar_cache_;
  std::vector<std::optional<engine::GrammarState>> grammars_;  // By slot; of those that have one.
};

}  // namespace shoal::forward
