#include "parallel/text/grammar/matcher.h"

#include <algorithm>
#include <optional>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

// Bytes of one grammar's states and masks beyond which unused ones are dropped.
constexpr size_t kStatesBytesMax = size_t{8} << 20;

// Bounds of the work on one mask: trie nodes, weighted by their state's positions and by the parts
// that its transitions opened, and different states. Counted as if nothing had been computed
// before, so that the mask does not depend on what had been.
constexpr size_t kWorkPerNode = 4;
constexpr size_t kWorkMin = 200'000;
constexpr uint32_t kPositionsPerUnit = 8;
constexpr uint32_t kUnfoldedPerUnit = 4;
constexpr size_t kWalkStatesMax = 8192;
// Bound, in parts opened, on finding out whether all plain characters lead to the same state.
constexpr size_t kPlainUnfoldedMax = size_t{256} << 10;

}  // namespace

class MaskedGrammar::States {
 public:
  States(const Expression& expression, const GrammarVocabulary& vocabulary)
      : vocabulary_(vocabulary), automaton_(expression) {}

  Automaton& automaton() { return automaton_; }
  size_t memory_bytes() const { return automaton_.memory_bytes() + mask_bytes_; }

  std::shared_ptr<const TokenMask> Mask(Automaton::State state) {
    if (masks_.size() <= state) masks_.resize(state + 1);
    if (masks_[state] != nullptr) return masks_[state];
    auto mask = std::make_shared<TokenMask>();
    mask->words.resize((static_cast<size_t>(vocabulary_.size()) + 63) / 64);
    AddPlain(state, *mask);
    Walk(vocabulary_.other_trie(), state, *mask);
    if (automaton_.Accepts(state)) {
      for (const int32_t token : vocabulary_.end_ids()) mask->Add(token);
    }
    mask_bytes_ += mask->words.size() * sizeof(uint64_t);
    masks_[state] = mask;
    return mask;
  }

 private:
  // Inside strings every plain character leads to the same state, so a token of plain characters
  // need not be read, only counted.
  void AddPlain(Automaton::State state, TokenMask& mask) {
    const auto& by_count = vocabulary_.plain_tokens();
    size_t allowed = 0;  // Characters that may follow.
    size_t unfolded = 0;
    for (Automaton::State at = state; allowed + 1 < by_count.size(); ++allowed) {
      const PlainStep& step = PlainNext(at);
      unfolded += step.unfolded;
      if (!step.next || unfolded > kPlainUnfoldedMax) {
        Walk(vocabulary_.plain_trie(), state, mask);
        return;
      }
      if (*step.next == Automaton::kDead) break;
      if (*step.next == at) allowed = by_count.size() - 2;
      at = *step.next;
    }
    if (allowed + 1 == by_count.size()) {
      for (size_t i = 0; i < mask.words.size(); ++i) mask.words[i] |= vocabulary_.plain_mask()[i];
      return;
    }
    for (size_t count = 1; count <= allowed; ++count) {
      for (const int32_t token : by_count[count]) mask.Add(token);
    }
  }

  // Where each plain character leads, if it is the same state for all and not too much work.
  struct PlainStep {
    std::optional<Automaton::State> next;
    size_t unfolded = 0;
  };

  const PlainStep& PlainNext(Automaton::State state) {
    const auto [entry, is_new] = plain_next_.try_emplace(state);
    PlainStep& step = entry->second;
    if (!is_new) return step;
    mask_bytes_ += 64;
    BeginCount();
    const Automaton::State next = Next(state, 'a');
    const bool same =
        LeadTo(state, 0x20, '"' - 1, 0, next) && LeadTo(state, '"' + 1, '\\' - 1, 0, next) &&
        LeadTo(state, '\\' + 1, 0x7F, 0, next) && LeadTo(state, 0xC2, 0xDF, 1, next) &&
        LeadsTo(state, 0xE0, 0xA0, 0xBF, 1, next) && LeadTo(state, 0xE1, 0xEC, 2, next) &&
        LeadsTo(state, 0xED, 0x80, 0x9F, 1, next) && LeadTo(state, 0xEE, 0xEF, 2, next) &&
        LeadsTo(state, 0xF0, 0x90, 0xBF, 2, next) && LeadTo(state, 0xF1, 0xF3, 3, next) &&
        LeadsTo(state, 0xF4, 0x80, 0x8F, 2, next);
    if (same) step.next = next;
    step.unfolded = unfolded_;
    return step;
  }

  // Whether each byte in [first, last] and then any `more` continuation bytes lead to `target`.
  bool LeadTo(Automaton::State state, uint32_t first, uint32_t last, int more,
              Automaton::State target) {
    Automaton::State checked = UINT32_MAX;
    for (uint32_t byte = first; byte <= last; ++byte) {
      // Vocabularies may lack bytes of rare characters; then no plain token holds them.
      if (!vocabulary_.single_bytes().Has(static_cast<uint8_t>(byte))) continue;
      if (unfolded_ > kPlainUnfoldedMax) return false;
      const Automaton::State next = Next(state, static_cast<uint8_t>(byte));
      if (next == checked) continue;
      const bool leads = more == 0 || next == Automaton::kDead
                             ? next == target
                             : LeadTo(next, 0x80, 0xBF, more - 1, target);
      if (!leads) return false;
      checked = next;
    }
    return true;
  }

  // The same for characters with the first byte `lead`, after which only some continuation bytes
  // may follow.
  bool LeadsTo(Automaton::State state, uint8_t lead, uint32_t first, uint32_t last, int more,
               Automaton::State target) {
    if (!vocabulary_.single_bytes().Has(lead)) return true;
    const Automaton::State next = Next(state, lead);
    if (next == Automaton::kDead) return target == Automaton::kDead;
    return LeadTo(next, first, last, more, target);
  }

  void Walk(const TokenTrie& trie, Automaton::State start, TokenMask& mask) {
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    path_.resize(trie.depth_max() + 1);
    path_[0] = start;
    size_t work_left = kWorkMin + kWorkPerNode * nodes.size();
    size_t states_left = kWalkStatesMax;
    BeginCount();
    for (size_t i = 0; i < nodes.size();) {
      const TokenTrie::Node& node = nodes[i];
      const Automaton::State from = path_[node.depth];
      const size_t work = 1 + automaton_.position_count(from) / kPositionsPerUnit;
      // First bytes are always tried, so that something is always allowed.
      const bool affordable = work <= work_left && states_left > 0;
      if (!affordable && node.depth > 0) {
        i = node.end;
        continue;
      }
      if (affordable) work_left -= work;
      const size_t unfolded_before = unfolded_;
      const Automaton::State to = Next(from, node.byte);
      work_left -= std::min(work_left, (unfolded_ - unfolded_before) / kUnfoldedPerUnit);
      if (to == Automaton::kDead) {
        i = node.end;
        continue;
      }
      if (MeetsFirst(to) && states_left > 0) --states_left;
      for (const int32_t token : trie.tokens(node)) mask.Add(token);
      path_[node.depth + 1] = to;
      ++i;
    }
  }

  // From here on states and parts count as new, whatever was met and opened before.
  void BeginCount() {
    ++count_;
    unfolded_ = 0;
  }

  struct Met {
    uint32_t count = 0;   // The count that met the state last.
    ByteSet transitions;  // Those it has taken, by their first byte.
  };

  bool MeetsFirst(Automaton::State state) {
    if (met_.size() <= state) met_.resize(std::max<size_t>(state + 1, 2 * met_.size()));
    if (met_[state].count == count_) return false;
    met_[state] = {count_, {}};
    return true;
  }

  Automaton::State Next(Automaton::State state, uint8_t byte) {
    const Automaton::State next = automaton_.Next(state, byte);
    const Automaton::Cost cost = automaton_.CostOf(state, byte);
    MeetsFirst(state);
    ByteSet& transitions = met_[state].transitions;
    if (!transitions.Has(cost.first_alike)) unfolded_ += cost.unfolded;
    transitions.Add(cost.first_alike);
    return next;
  }

  const GrammarVocabulary& vocabulary_;
  Automaton automaton_;
  std::vector<std::shared_ptr<const TokenMask>> masks_;  // By state.
  std::unordered_map<Automaton::State, PlainStep> plain_next_;
  size_t mask_bytes_ = 0;
  std::vector<Automaton::State> path_;
  std::vector<Met> met_;  // By state.
  uint32_t count_ = 0;
  size_t unfolded_ = 0;
};

namespace {

std::shared_ptr<const TokenMask> EndMask(const GrammarVocabulary& vocabulary) {
  if (vocabulary.end_ids().empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "the model names no end-of-sequence token, which a grammar needs to end an answer");
  }
  auto mask = std::make_shared<TokenMask>();
  mask->words.resize((static_cast<size_t>(vocabulary.size()) + 63) / 64);
  for (const int32_t token : vocabulary.end_ids()) mask->Add(token);
  return mask;
}

}  // namespace

MaskedGrammar::MaskedGrammar(std::shared_ptr<const Expression> expression,
                             std::shared_ptr<const GrammarVocabulary> vocabulary)
    : expression_(std::move(expression)),
      vocabulary_(std::move(vocabulary)),
      end_mask_(EndMask(*vocabulary_)),
      states_(std::make_unique<States>(*expression_, *vocabulary_)),
      bytes_max_(kStatesBytesMax) {}

MaskedGrammar::~MaskedGrammar() = default;

size_t MaskedGrammar::memory_bytes() const {
  const std::lock_guard lock(mutex_);
  return states_->memory_bytes();
}

void MaskedGrammar::Collect() {
  if (states_->memory_bytes() <= bytes_max_) return;
  std::vector<Automaton::State> needed;
  for (const GrammarMatcher* matcher : matchers_) needed.push_back(matcher->state_);
  auto kept = std::make_unique<States>(*expression_, *vocabulary_);
  const auto kept_of = kept->automaton().Import(states_->automaton(), needed);
  for (GrammarMatcher* matcher : matchers_) matcher->state_ = kept_of.at(matcher->state_);
  states_ = std::move(kept);
  bytes_max_ = std::max(kStatesBytesMax, 2 * states_->memory_bytes());
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<MaskedGrammar> grammar)
    : grammar_(std::move(grammar)) {
  const std::lock_guard lock(grammar_->mutex_);
  state_ = grammar_->states_->automaton().start();
  grammar_->matchers_.insert(this);
}

GrammarMatcher::GrammarMatcher(const GrammarMatcher& other)
    : grammar_(other.grammar_), ended_(other.ended_) {
  const std::lock_guard lock(grammar_->mutex_);
  state_ = other.state_;
  grammar_->matchers_.insert(this);
}

GrammarMatcher::~GrammarMatcher() {
  const std::lock_guard lock(grammar_->mutex_);
  grammar_->matchers_.erase(this);
}

std::shared_ptr<const TokenMask> GrammarMatcher::Allowed() {
  if (ended_) return grammar_->end_mask_;
  const std::lock_guard lock(grammar_->mutex_);
  auto mask = grammar_->states_->Mask(state_);
  grammar_->Collect();
  return mask;
}

bool GrammarMatcher::Accept(int32_t token) {
  const GrammarVocabulary& vocabulary = grammar_->vocabulary();
  if (token < 0 || token >= vocabulary.size()) return false;
  const std::lock_guard lock(grammar_->mutex_);
  if (vocabulary.IsEnd(token)) {
    if (!ended_ && !grammar_->states_->automaton().Accepts(state_)) return false;
    ended_ = true;
    return true;
  }
  const std::string& bytes = vocabulary.bytes(token);
  if (ended_ || bytes.empty()) return false;
  Automaton& automaton = grammar_->states_->automaton();
  Automaton::State at = state_;
  for (const char byte : bytes) at = automaton.Next(at, static_cast<uint8_t>(byte));
  if (at == Automaton::kDead) return false;
  state_ = at;
  grammar_->Collect();
  return true;
}

}  // namespace shoal::text::grammar
