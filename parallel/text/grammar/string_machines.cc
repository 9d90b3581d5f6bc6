#include "parallel/text/grammar/string_machines.h"

#include <map>
#include <unordered_map>
#include <vector>

#include "parallel/text/grammar/regular/automaton.h"
#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

// How many bytes the spelled character that a text has begun still needs: none, one to four, or,
// after a backslash, as many as the next byte says.
enum class Within : uint8_t { kNone = 0, kOne = 1, kTwo = 2, kThree = 3, kFour = 4, kEscape };

Within After(Within within, uint8_t byte) {
  if (within == Within::kEscape) return byte == 'u' ? Within::kFour : Within::kNone;
  if (within != Within::kNone) return static_cast<Within>(static_cast<uint8_t>(within) - 1);
  if (byte == '\\') return Within::kEscape;
  if (byte < 0xC0) return Within::kNone;
  if (byte < 0xE0) return Within::kOne;
  return byte < 0xF0 ? Within::kTwo : Within::kThree;
}

// All states of a finished expression without rules.
class Walk {
 public:
  Walk(const Expression& expression, MachineBudget& budget)
      : automaton_(expression), budget_(budget) {}

  Machine Run() {
    std::vector<Machine::State> states;
    StateOf(automaton_.start(), Within::kNone);
    for (size_t i = 0; i < places_.size(); ++i) {
      budget_.Take(MachineBudget::kWalkedStateWork);
      const auto [at, within] = places_[i];
      Machine::State state{.accepts = automaton_.Accepts(at), .inside = within != Within::kNone};
      for (int byte = 0; byte < 256; ++byte) AddEdge(state, at, within, static_cast<uint8_t>(byte));
      states.push_back(std::move(state));
    }
    return {states, budget_};
  }

 private:
  struct Place {
    Automaton::State at;
    Within within;
  };

  uint32_t StateOf(Automaton::State at, Within within) {
    const uint64_t key = uint64_t{at} * 8 + static_cast<uint8_t>(within);
    const auto [entry, is_new] = known_.try_emplace(key, static_cast<uint32_t>(places_.size()));
    if (is_new) places_.push_back({at, within});
    return entry->second;
  }

  void AddEdge(Machine::State& state, Automaton::State at, Within within, uint8_t byte) {
    const Automaton::State next = automaton_.Next(at, byte);
    const Automaton::Cost cost = automaton_.CostOf(at, byte);
    if (cost.first_alike == byte) {
      budget_.Take((automaton_.position_count(at) + cost.unfolded) * MachineBudget::kUnfoldedWork);
    }
    if (cost.unfolded >= Automaton::kUnfoldedMax ||
        automaton_.position_count(next) >= Automaton::kPositionsMax) {
      Throw(ErrorCode::kInvalidArgument, "too ambiguous to be combined with other demands");
    }
    if (next == Automaton::kDead) return;
    state.Append(byte, byte, StateOf(next, After(within, byte)));
  }

  Automaton automaton_;
  MachineBudget& budget_;
  std::vector<Place> places_;
  std::unordered_map<uint64_t, uint32_t> known_;
};

}  // namespace

const Machine& StringMachines::Any() { return OfPattern("[\\s\\S]*", RegexMatch::kWhole); }

const Machine& StringMachines::OfPattern(const std::string& pattern, RegexMatch match) {
  const auto found = of_pattern_.find({pattern, match});
  if (found != of_pattern_.end()) return found->second;
  Expression expression(expression_.expressible());
  expression.Finish(ParseRegex(expression, pattern, Spelling::kJsonString, match));
  Machine machine = Walk(expression, expression_.machine_budget()).Run();
  return of_pattern_.try_emplace({pattern, match}, std::move(machine)).first->second;
}

// A trie.
Machine StringMachines::OfTexts(std::span<const std::string> texts) {
  struct Node {
    std::map<uint8_t, uint32_t> next = {};
    bool accepts = false;
    Within within = Within::kNone;
  };
  std::vector<Node> nodes(1);
  for (const std::string& text : texts) {
    uint32_t at = 0;
    for (const char c : SpelledText(text)) {
      const auto byte = static_cast<uint8_t>(c);
      const auto [entry, is_new] =
          nodes[at].next.try_emplace(byte, static_cast<uint32_t>(nodes.size()));
      const uint32_t to = entry->second;
      if (is_new) nodes.push_back({.within = After(nodes[at].within, byte)});
      at = to;
    }
    nodes[at].accepts = true;
  }
  std::vector<Machine::State> states;
  for (const Node& node : nodes) {
    Machine::State& state = states.emplace_back();
    state.accepts = node.accepts;
    state.inside = node.within != Within::kNone;
    for (const auto& [byte, to] : node.next) state.Append(byte, byte, to);
  }
  return {states, expression_.machine_budget()};
}

std::string SpelledText(std::string_view text) {
  std::string spelled;
  while (!text.empty()) {
    const Utf8Step step = DecodeUtf8(text);
    spelled += Spell(step.code_point, Spelling::kJsonString);
    text.remove_prefix(step.length);
  }
  return spelled;
}

}  // namespace shoal::text::grammar
