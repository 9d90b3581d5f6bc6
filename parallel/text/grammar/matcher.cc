#include "parallel/text/grammar/matcher.h"

#include <algorithm>
#include <optional>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

// Of one grammar's states and masks, before they are dropped.
constexpr size_t kStatesBytesMax = size_t{8} << 20;

// Bounds of the work on one mask, in terms that do not depend on what is known already: trie nodes
// weighted by their state's positions, and different states.
constexpr size_t kWorkPerNode = 4;
constexpr size_t kWorkMin = 200'000;
constexpr uint32_t kPositionsPerUnit = 8;
constexpr size_t kWalkStatesMax = 8192;

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
    for (Automaton::State at = state; allowed + 1 < by_count.size(); ++allowed) {
      const std::optional<Automaton::State> next = PlainNext(at);
      if (!next) {
        Walk(vocabulary_.plain_trie(), state, mask);
        return;
      }
      if (*next == Automaton::kDead) break;
      if (*next == at) allowed = by_count.size() - 2;
      at = *next;
    }
    if (allowed + 1 == by_count.size()) {
      for (size_t i = 0; i < mask.words.size(); ++i) mask.words[i] |= vocabulary_.plain_mask()[i];
      return;
    }
    for (size_t count = 1; count <= allowed; ++count) {
      for (const int32_t token : by_count[count]) mask.Add(token);
    }
  }

  // Where each plain character leads, if it is the same state for all.
  std::optional<Automaton::State> PlainNext(Automaton::State state) {
    const auto known = plain_next_.find(state);
    if (known != plain_next_.end()) return known->second;
    const Automaton::State next = automaton_.Next(state, 'a');
    const bool same =
        LeadTo(state, 0x20, '"' - 1, 0, next) && LeadTo(state, '"' + 1, '\\' - 1, 0, next) &&
        LeadTo(state, '\\' + 1, 0x7F, 0, next) && LeadTo(state, 0xC2, 0xDF, 1, next) &&
        LeadsTo(state, 0xE0, 0xA0, 0xBF, 1, next) && LeadTo(state, 0xE1, 0xEC, 2, next) &&
        LeadsTo(state, 0xED, 0x80, 0x9F, 1, next) && LeadTo(state, 0xEE, 0xEF, 2, next) &&
        LeadsTo(state, 0xF0, 0x90, 0xBF, 2, next) && LeadTo(state, 0xF1, 0xF3, 3, next) &&
        LeadsTo(state, 0xF4, 0x80, 0x8F, 2, next);
    const auto result = same ? std::optional(next) : std::nullopt;
    plain_next_.emplace(state, result);
    mask_bytes_ += 48;
    return result;
  }

  // Whether each byte in [first, last] and then any `more` continuation bytes lead to `target`.
  bool LeadTo(Automaton::State state, uint32_t first, uint32_t last, int more,
              Automaton::State target) {
    Automaton::State checked = UINT32_MAX;
    for (uint32_t byte = first; byte <= last; ++byte) {
      // Many a vocabulary lacks bytes of rare characters; no plain token holds them.
      if (!vocabulary_.single_bytes().Has(static_cast<uint8_t>(byte))) continue;
      const Automaton::State next = automaton_.Next(state, static_cast<uint8_t>(byte));
      if (next == checked) continue;
      const bool leads = more == 0 || next == Automaton::kDead
                             ? next == target
                             : LeadTo(next, 0x80, 0xBF, more - 1, target);
      if (!leads) return false;
      checked = next;
    }
    return true;
  }

  // The same behind a first byte after which not all continuation bytes may follow.
  bool LeadsTo(Automaton::State state, uint8_t lead, uint32_t first, uint32_t last, int more,
               Automaton::State target) {
    if (!vocabulary_.single_bytes().Has(lead)) return true;
    const Automaton::State next = automaton_.Next(state, lead);
    if (next == Automaton::kDead) return target == Automaton::kDead;
    return LeadTo(next, first, last, more, target);
  }

  void Walk(const TokenTrie& trie, Automaton::State start, TokenMask& mask) {
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    path_.resize(trie.depth_max() + 1);
    path_[0] = start;
    size_t work_left = kWorkMin + kWorkPerNode * nodes.size();
    size_t states_left = kWalkStatesMax;
    ++walk_;
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
      const Automaton::State to = automaton_.Next(from, node.byte);
      if (to == Automaton::kDead) {
        i = node.end;
        continue;
      }
      if (IsNew(to) && states_left > 0) --states_left;
      for (const int32_t token : trie.tokens(node)) mask.Add(token);
      path_[node.depth + 1] = to;
      ++i;
    }
  }

  // Whether this walk meets the state for the first time.
  bool IsNew(Automaton::State state) {
    if (met_.size() <= state) met_.resize(std::max<size_t>(state + 1, 2 * met_.size()));
    const bool is_new = met_[state] != walk_;
    met_[state] = walk_;
    return is_new;
  }

  const GrammarVocabulary& vocabulary_;
  Automaton automaton_;
  std::vector<std::shared_ptr<const TokenMask>> masks_;  // By state.
  std::unordered_map<Automaton::State, std::optional<Automaton::State>> plain_next_;
  size_t mask_bytes_ = 0;
  std::vector<Automaton::State> path_;
  std::vector<uint32_t> met_;  // The walk that met a state last.
  uint32_t walk_ = 0;
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
      states_(std::make_shared<States>(*expression_, *vocabulary_)) {}

MaskedGrammar::~MaskedGrammar() = default;

size_t MaskedGrammar::memory_bytes() const {
  const std::lock_guard lock(mutex_);
  return states_->memory_bytes();
}

void MaskedGrammar::Renew(std::shared_ptr<States>& states, Automaton::State& state) {
  if (states_->memory_bytes() > kStatesBytesMax) {
    states_ = std::make_shared<States>(*expression_, *vocabulary_);
  }
  if (states == states_) return;
  state = states_->automaton().Import(states->automaton(), state);
  states = states_;
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<MaskedGrammar> grammar)
    : grammar_(std::move(grammar)) {
  const std::lock_guard lock(grammar_->mutex_);
  states_ = grammar_->states_;
  state_ = states_->automaton().start();
}

std::shared_ptr<const TokenMask> GrammarMatcher::Allowed() {
  if (ended_) return grammar_->end_mask_;
  const std::lock_guard lock(grammar_->mutex_);
  grammar_->Renew(states_, state_);
  return states_->Mask(state_);
}

bool GrammarMatcher::Accept(int32_t token) {
  const GrammarVocabulary& vocabulary = grammar_->vocabulary();
  if (token < 0 || token >= vocabulary.size()) return false;
  const std::lock_guard lock(grammar_->mutex_);
  if (vocabulary.IsEnd(token)) {
    if (!ended_ && !states_->automaton().Accepts(state_)) return false;
    ended_ = true;
    return true;
  }
  const std::string& bytes = vocabulary.bytes(token);
  if (ended_ || bytes.empty()) return false;
  grammar_->Renew(states_, state_);
  Automaton::State at = state_;
  for (const char byte : bytes) at = states_->automaton().Next(at, static_cast<uint8_t>(byte));
  if (at == Automaton::kDead) return false;
  state_ = at;
  return true;
}

}  // namespace shoal::text::grammar
