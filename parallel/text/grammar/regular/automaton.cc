#include "parallel/text/grammar/regular/automaton.h"

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::text::grammar {
namespace {

constexpr uint64_t kMix = 0x9E3779B97F4A7C15U;

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * kMix;
  return hash ^ (hash >> 29);
}

}  // namespace

size_t Automaton::CellHash::operator()(const Cell& cell) const {
  uint64_t hash = Mix(cell.node, cell.rest);
  hash = Mix(hash, (uint64_t{cell.done_or_min} << 32) | cell.max);
  return Mix(hash, cell.depth);
}

Automaton::Automaton(const Expression& expression) : expression_(expression) {
  cells_.emplace_back();  // The end.
  cell_marks_.push_back(0);
  states_.emplace_back();  // kDead.
  BeginClosure();
  Close(PushNode(expression_.root(), kRuleDepthMax, 0));
  start_ = Intern();
}

Automaton::Stack Automaton::Push(const Cell& cell) {
  const auto [entry, is_new] = stack_of_cell_.try_emplace(cell, static_cast<Stack>(cells_.size()));
  if (is_new) {
    cells_.push_back(cell);
    cell_marks_.push_back(0);
    memory_bytes_ += 3 * sizeof(Cell);
  }
  return entry->second;
}

Automaton::Stack Automaton::PushNode(NodeId id, uint32_t depth, Stack rest) {
  const Node& node = expression_.node(id);
  if (id == Expression::kEmpty) return rest;
  // Positions that differ only in a depth that does not matter become one.
  Cell cell{.node = id, .depth = node.uses_rules ? depth : 0, .rest = rest};
  if (node.kind == NodeKind::kRepeat) {
    cell.done_or_min = node.repeat_min;
    cell.max = node.repeat_max;
  }
  return Push(cell);
}

void Automaton::BeginClosure() {
  ++mark_;
  positions_.clear();
  unfolded_ = 0;
}

// Following the first alternatives leads every part to a byte or the end within the depth of the
// expression, so a closure that is not empty keeps something within the bound.
void Automaton::Close(Stack stack) {
  pending_.assign(1, {stack});
  while (!pending_.empty() && positions_.size() < kPositionsMax &&
         (unfolded_ < kUnfoldedMax || positions_.empty())) {
    ++unfolded_;
    const Pending top = pending_.back();
    pending_.pop_back();
    const NodeKind kind = expression_.node(cells_[top.stack].node).kind;
    const bool is_new = cell_marks_[top.stack] != mark_;
    if (top.option == 0 && !is_new) continue;
    cell_marks_[top.stack] = mark_;
    if (top.stack == 0 || kind == NodeKind::kBytes || kind == NodeKind::kLiteral) {
      positions_.push_back(top.stack);
    } else if (kind == NodeKind::kMachine) {
      UnfoldMachine(top.stack);
    } else if (kind == NodeKind::kChoice) {
      UnfoldChoice(top);
    } else {
      Unfold(top.stack);
    }
  }
}

// A machine that can end here may go on as well.
void Automaton::UnfoldMachine(Stack stack) {
  const Cell& cell = cells_[stack];
  const Machine& machine = expression_.machine(expression_.node(cell.node));
  if (!machine.Ends(PlaceOf(cell))) positions_.push_back(stack);
  if (machine.Accepts(PlaceOf(cell))) pending_.push_back({cell.rest});
}

// One alternative at a time, so that further ones cost nothing where the first suffice.
void Automaton::UnfoldChoice(Pending choice) {
  const Cell cell = cells_[choice.stack];
  const Node& node = expression_.node(cell.node);
  for (; choice.option < node.count; ++unfolded_) {
    const NodeId option = expression_.child(node, choice.option++);
    if (!Fits(option, cell.depth)) continue;
    if (choice.option < node.count) pending_.push_back(choice);
    pending_.push_back({PushNode(option, cell.depth, cell.rest)});
    return;
  }
}

// What is to be followed first is pushed last. Each has a height that fits, hence each leads on to
// a byte or the end.
void Automaton::Unfold(Stack stack) {
  const Cell cell = cells_[stack];
  const Node& node = expression_.node(cell.node);
  switch (node.kind) {
    case NodeKind::kSequence: {
      Cell after = cell;
      ++after.done_or_min;
      const Stack rest = after.done_or_min < node.count ? Push(after) : cell.rest;
      pending_.push_back({PushNode(expression_.child(node, cell.done_or_min), cell.depth, rest)});
      return;
    }
    case NodeKind::kRepeat: {
      if (cell.done_or_min == 0) pending_.push_back({cell.rest});
      const NodeId body = expression_.child(node, 0);
      if (!Fits(body, cell.depth)) return;
      Cell after = cell;
      if (after.done_or_min > 0) --after.done_or_min;
      if (after.max != kUnlimited) --after.max;
      const Stack rest = after.max > 0 ? Push(after) : cell.rest;
      pending_.push_back({PushNode(body, cell.depth, rest)});
      return;
    }
    case NodeKind::kRule:
      pending_.push_back({PushNode(expression_.child(node, 0), cell.depth - 1, cell.rest)});
      return;
    case NodeKind::kChoice:
    case NodeKind::kBytes:
    case NodeKind::kLiteral:
    case NodeKind::kMachine:
      break;
  }
  SHOAL_CHECK(false, "node ", cell.node);
}

Automaton::State Automaton::Intern() {
  if (positions_.empty()) return kDead;
  uint64_t hash = positions_.size();
  for (const Stack stack : positions_) hash = Mix(hash, stack);
  const auto [begin, end] = state_of_hash_.equal_range(hash);
  for (auto entry = begin; entry != end; ++entry) {
    if (states_[entry->second].positions == positions_) return entry->second;
  }
  const auto state = static_cast<State>(states_.size());
  Entry& added = states_.emplace_back();
  added.positions = positions_;
  added.accepts = std::find(positions_.begin(), positions_.end(), 0) != positions_.end();
  state_of_hash_.emplace(hash, state);
  memory_bytes_ += sizeof(Entry) + 48 + positions_.size() * sizeof(Stack);
  return state;
}

ByteSet Automaton::Alike(const Entry& entry, uint8_t byte) const {
  ByteSet alike = ByteSet::All();
  for (const Stack stack : entry.positions) {
    if (stack == 0) continue;
    const Cell& cell = cells_[stack];
    const Node& node = expression_.node(cell.node);
    ByteSet set;
    if (node.kind == NodeKind::kBytes) {
      set = expression_.set(node);
    } else if (node.kind == NodeKind::kMachine) {
      set = expression_.machine(node).Alike(PlaceOf(cell), byte);
    } else {
      set.Add(static_cast<uint8_t>(expression_.text(node)[cell.done_or_min]));
    }
    set.Has(byte) ? alike.KeepOnly(set) : alike.Remove(set);
  }
  return alike;
}

Automaton::State Automaton::Next(State state, uint8_t byte) {
  if (state == kDead) return kDead;
  if (states_[state].next == nullptr) {
    states_[state].next = std::make_unique<Transitions>();
    states_[state].next->state.fill(kUnknown);
    memory_bytes_ += sizeof(*states_[state].next);
  }
  const State known = states_[state].next->state[byte];
  if (known != kUnknown) return known;

  BeginClosure();
  for (size_t i = 0; i < states_[state].positions.size(); ++i) {
    const Stack stack = states_[state].positions[i];
    if (stack == 0) continue;
    Cell cell = cells_[stack];
    const Node& node = expression_.node(cell.node);
    if (node.kind == NodeKind::kBytes) {
      if (expression_.set(node).Has(byte)) Close(cell.rest);
      continue;
    }
    if (node.kind == NodeKind::kMachine) {
      const auto next = expression_.machine(node).Next(PlaceOf(cell), byte);
      if (!next) continue;
      cell.done_or_min = next->state;
      cell.max = next->count;
      Close(Push(cell));
      continue;
    }
    const std::string& text = expression_.text(node);
    if (static_cast<uint8_t>(text[cell.done_or_min]) != byte) continue;
    ++cell.done_or_min;
    Close(cell.done_or_min < text.size() ? Push(cell) : cell.rest);
  }
  const State next = Intern();
  const auto unfolded = static_cast<uint16_t>(std::min<uint32_t>(unfolded_, UINT16_MAX));
  Entry& entry = states_[state];
  const ByteSet alike = Alike(entry, byte);
  const uint8_t first = alike.First();
  alike.ForEach([&](uint8_t like) {
    entry.next->state[like] = next;
    entry.next->unfolded[like] = unfolded;
    entry.next->first_alike[like] = first;
  });
  return next;
}

std::unordered_map<Automaton::State, Automaton::State> Automaton::Import(
    const Automaton& other, std::span<const State> states) {
  std::unordered_map<Stack, Stack> own_of;  // Stacks share what follows: each is copied once.
  own_of.emplace(0, 0);
  const auto import_stack = [&](Stack stack) {
    std::vector<Stack> path;
    while (!own_of.contains(stack)) {
      path.push_back(stack);
      stack = other.cells_[stack].rest;
    }
    Stack own = own_of.at(stack);
    for (auto it = path.rbegin(); it != path.rend(); ++it) {
      Cell cell = other.cells_[*it];
      cell.rest = own;
      own = Push(cell);
      own_of.emplace(*it, own);
    }
    return own;
  };
  std::unordered_map<State, State> imported;
  for (const State state : states) {
    if (imported.contains(state)) continue;
    BeginClosure();
    for (const Stack stack : other.states_[state].positions) {
      positions_.push_back(import_stack(stack));
    }
    imported.emplace(state, Intern());
  }
  return imported;
}

}  // namespace shoal::text::grammar
