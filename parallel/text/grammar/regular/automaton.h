#pragma once

// Walks an expression byte by byte: a pushdown automaton made deterministic as far as it is used.
//
// A state is a list of positions, each a stack of what is still to be matched; equal states are
// one. What may follow a state is a function of the bytes that led there and never of what else was
// computed before, so that automata of the same expression on different machines agree. From every
// state but kDead some bytes lead to a match.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "parallel/text/grammar/regular/expression.h"

namespace shoal::text::grammar {

// Threading: one thread. Refers to the expression, which must be finished.
class Automaton {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;
  // Derivations followed at once. Of an expression more ambiguous than that, the later ones are
  // dropped: then not every match can be reached, but all that is reached still matches.
  static constexpr size_t kPositionsMax = 1024;
  // Likewise the parts opened on the way to them.
  static constexpr uint32_t kUnfoldedMax = 8 * kPositionsMax;

  explicit Automaton(const Expression& expression);

  State start() const { return start_; }
  State Next(State state, uint8_t byte);
  // What Next(state, byte), which must have been called, cost the first time: how many parts it
  // opened, at most kUnfoldedMax and one choice more; and the first of the bytes that it found the
  // next state for at the same time.
  struct Cost {
    uint32_t unfolded = 0;
    uint8_t first_alike = 0;
  };
  Cost CostOf(State state, uint8_t byte) const {
    if (state == kDead) return {};
    const Transitions& next = *states_[state].next;
    return {next.unfolded[byte], next.first_alike[byte]};
  }
  bool Accepts(State state) const { return states_[state].accepts; }
  uint32_t position_count(State state) const {
    return static_cast<uint32_t>(states_[state].positions.size());
  }
  size_t state_count() const { return states_.size(); }

  // States of another automaton of the same expression, in this one, which must be new.
  std::unordered_map<State, State> Import(const Automaton& other, std::span<const State> states);

  // About how many bytes it has allocated.
  size_t memory_bytes() const { return memory_bytes_; }

 private:
  // What is to be matched, then what follows it. 0 is the end: nothing follows.
  using Stack = uint32_t;

  struct Cell {
    NodeId node = 0;
    // Literal: bytes matched. Sequence: parts matched. Repeat: rounds that must and may follow.
    // Machine: its state and count.
    uint32_t done_or_min = 0;
    uint32_t max = 0;
    uint32_t depth = 0;  // Rules that may still be entered inside each other; 0 if it uses none.
    Stack rest = 0;

    bool operator==(const Cell&) const = default;
  };
  struct CellHash {
    size_t operator()(const Cell& cell) const;
  };
  struct Transitions {
    std::array<State, 256> state;  // kUnknown where not yet computed.
    std::array<uint16_t, 256> unfolded;
    std::array<uint8_t, 256> first_alike;
  };
  struct Entry {
    std::vector<Stack>
        positions;  // In the order of discovery. Tops are bytes, literals, machines or the end.
    bool accepts = false;
    std::unique_ptr<Transitions> next;
  };
  // A part to be opened; of alternatives, those from `option` on.
  struct Pending {
    Stack stack = 0;
    uint32_t option = 0;
  };

  static constexpr State kUnknown = UINT32_MAX;

  Stack Push(const Cell& cell);
  Stack PushNode(NodeId node, uint32_t depth, Stack rest);
  bool Fits(NodeId node, uint32_t depth) const { return expression_.node(node).height <= depth; }
  void BeginClosure();
  // Appends what `stack` can begin with to positions_.
  void Close(Stack stack);
  void Unfold(Stack stack);
  void UnfoldChoice(Pending choice);
  State Intern();
  static Machine::At PlaceOf(const Cell& machine) { return {machine.done_or_min, machine.max}; }
  void UnfoldMachine(Stack stack);
  // The bytes that every position treats like `byte`.
  ByteSet Alike(const Entry& entry, uint8_t byte) const;

  const Expression& expression_;
  std::vector<Cell> cells_;
  std::vector<uint32_t> cell_marks_;  // The closure that met the cell last.
  std::unordered_map<Cell, Stack, CellHash> stack_of_cell_;
  std::vector<Entry> states_;
  std::unordered_multimap<uint64_t, State> state_of_hash_;
  State start_ = kDead;
  size_t memory_bytes_ = 0;

  uint32_t mark_ = 0;
  std::vector<Pending> pending_;  // Last in, first out.
  // Of the closure under way.
  std::vector<Stack> positions_;
  uint32_t unfolded_ = 0;
};

}  // namespace shoal::text::grammar
