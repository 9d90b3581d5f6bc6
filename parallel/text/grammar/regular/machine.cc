#include "parallel/text/grammar/regular/machine.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

// The states from which a match can be reached.
std::vector<bool> LeadingToMatches(const std::vector<Machine::State>& states) {
  std::vector<std::vector<uint32_t>> from(states.size());
  std::vector<uint32_t> pending;
  std::vector<bool> leads(states.size());
  for (uint32_t state = 0; state < states.size(); ++state) {
    for (const Machine::Edge& edge : states[state].edges) from[edge.to].push_back(state);
    if (!states[state].accepts) continue;
    leads[state] = true;
    pending.push_back(state);
  }
  while (!pending.empty()) {
    const uint32_t state = pending.back();
    pending.pop_back();
    for (const uint32_t before : from[state]) {
      if (leads[before]) continue;
      leads[before] = true;
      pending.push_back(before);
    }
  }
  return leads;
}

}  // namespace

void MachineBudget::Take(uint64_t work) {
  if (work > left_) {
    Throw(ErrorCode::kInvalidArgument,
          "patterns, lengths, multiples and names take too much work together: use shorter "
          "lengths, simpler patterns or smaller multiples");
  }
  left_ -= work;
}

void Machine::State::Append(uint8_t first, uint8_t last, uint32_t to) {
  if (!edges.empty() && edges.back().to == to && edges.back().last + 1 == first) {
    edges.back().last = last;
  } else {
    edges.push_back({first, last, to});
  }
}

Machine::Machine(const std::vector<State>& states, MachineBudget& budget) {
  const std::vector<bool> leads = LeadingToMatches(states);
  if (states.empty() || !leads[0]) return;
  std::vector<uint32_t> number(states.size(), kNone);
  uint32_t count = 0;
  for (uint32_t state = 0; state < states.size(); ++state) {
    if (leads[state]) number[state] = count++;
  }
  for (uint32_t state = 0; state < states.size(); ++state) {
    if (!leads[state]) continue;
    Span span{.edges_begin = static_cast<uint32_t>(edges_.size()),
              .accepts = states[state].accepts,
              .inside = states[state].inside};
    for (const Edge& edge : states[state].edges) {
      if (leads[edge.to]) edges_.push_back({edge.first, edge.last, number[edge.to]});
    }
    span.edges_end = static_cast<uint32_t>(edges_.size());
    states_.push_back(span);
  }
  budget.Take((states_.size() + edges_.size()) * MachineBudget::kEdgeWork);
}

Machine Machine::Intersect(const Machine& a, const Machine& b, MachineBudget& budget) {
  return Product(a, b, false, budget);
}

Machine Machine::Subtract(const Machine& a, const Machine& b, MachineBudget& budget) {
  return Product(a, b, true, budget);
}

// States are pairs. Where `b` is subtracted, its part of a pair is kNone once it cannot match.
Machine Machine::Product(const Machine& a, const Machine& b, bool subtract, MachineBudget& budget) {
  SHOAL_CHECK(!a.counts_ && !b.counts_, "lengths come last");
  std::vector<State> states;
  if (a.empty()) return {states, budget};
  std::unordered_map<uint64_t, uint32_t> known;
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  const auto state_of = [&](uint32_t in_a, uint32_t in_b) {
    const uint64_t key = (uint64_t{in_a} << 32) | in_b;
    const auto [entry, is_new] = known.try_emplace(key, static_cast<uint32_t>(pairs.size()));
    if (is_new) pairs.emplace_back(in_a, in_b);
    return entry->second;
  };
  state_of(0, b.empty() ? kNone : 0);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto [in_a, in_b] = pairs[i];
    State state{.accepts = a.states_[in_a].accepts, .inside = a.states_[in_a].inside};
    if (subtract ? in_b != kNone && b.states_[in_b].accepts
                 : in_b == kNone || !b.states_[in_b].accepts) {
      state.accepts = false;
    }
    const Edge* other = in_b == kNone ? nullptr : b.begin(in_b);
    const Edge* const other_end = in_b == kNone ? nullptr : b.end(in_b);
    for (const Edge* edge = a.begin(in_a); edge != a.end(in_a); ++edge) {
      for (uint32_t first = edge->first; first <= edge->last;) {
        while (other != other_end && other->last < first) ++other;
        const bool shared = other != other_end && other->first <= first;
        uint32_t last = edge->last;
        if (shared) {
          last = std::min<uint32_t>(last, other->last);
        } else if (other != other_end && other->first <= last) {
          last = other->first - 1U;
        }
        if (shared || subtract) {
          const uint32_t to = state_of(edge->to, shared ? other->to : kNone);
          state.Append(static_cast<uint8_t>(first), static_cast<uint8_t>(last), to);
        }
        first = last + 1;
      }
    }
    budget.Take((1 + state.edges.size()) * MachineBudget::kEdgeWork);
    states.push_back(std::move(state));
  }
  return {states, budget};
}

const std::vector<bool>& Machine::LeadsFrom(uint32_t count) const {
  const auto range =
      std::partition_point(ranges_.begin(), ranges_.end(),
                           [&](const CountRange& each) { return each.count_min > count; });
  return range->leads;
}

std::vector<bool> Machine::LeadsBefore(const std::vector<bool>& after, bool accepts_here) const {
  std::vector<bool> leads(states_.size());
  // The later bytes of a character lead to states of the same count, in any order.
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t state = 0; state < states_.size(); ++state) {
      if (leads[state]) continue;
      const Span& span = states_[state];
      const std::vector<bool>& next = span.inside ? leads : after;
      if (!(accepts_here && span.accepts) &&
          std::none_of(begin(state), end(state), [&](const Edge& e) { return next[e.to]; })) {
        continue;
      }
      leads[state] = true;
      changed = true;
    }
  }
  return leads;
}

// From the greatest count down. Where a count is like the one above it, so are those below it,
// until the minimum makes a difference.
Machine Machine::WithLengths(uint32_t min, uint32_t max, MachineBudget& budget) const {
  SHOAL_CHECK(!counts_, "lengths come once");
  if (empty()) return *this;
  Machine result = *this;
  result.counts_ = true;
  result.open_ended_ = max == kNone;
  result.length_min_ = min;
  result.count_max_ = result.open_ended_ ? min : max;
  std::vector<bool> after(states_.size());
  uint64_t above = uint64_t{result.count_max_} + 1;  // Counts that are done begin here.
  if (result.open_ended_) {
    after.assign(states_.size(), true);
    result.ranges_.push_back({min, after});
    above = min;
  }
  while (above > 0) {
    const auto count = static_cast<uint32_t>(above - 1);
    budget.Take(2 * (states_.size() + edges_.size()));
    std::vector<bool> leads = LeadsBefore(after, count >= min);
    above = count;
    if (leads == after) above = count >= min ? min : 0;
    if (leads == after && !result.ranges_.empty()) {
      result.ranges_.back().count_min = static_cast<uint32_t>(above);
    } else {
      result.ranges_.push_back({static_cast<uint32_t>(above), leads});
    }
    after = std::move(leads);
  }
  if (!result.LeadsFrom(0)[0]) return {{}, budget};
  return result;
}

std::vector<Machine::State> Machine::Copy() const {
  std::vector<State> states;
  for (uint32_t state = 0; state < states_.size(); ++state) {
    states.push_back({{begin(state), end(state)}, states_[state].accepts, states_[state].inside});
  }
  return states;
}

Machine Machine::Restricted(const ByteSet& bytes, MachineBudget& budget) const {
  std::vector<State> states = Copy();
  for (State& state : states) {
    for (const Edge& edge : std::exchange(state.edges, {})) {
      for (uint32_t byte = edge.first; byte <= edge.last; ++byte) {
        const auto only = static_cast<uint8_t>(byte);
        if (bytes.Has(only)) state.Append(only, only, edge.to);
      }
    }
  }
  const Machine kept(states, budget);
  if (!counts_) return kept;
  return kept.WithLengths(length_min_, open_ended_ ? kNone : count_max_, budget);
}

ByteSet Machine::bytes() const {
  ByteSet bytes;
  for (const Edge& edge : edges_) bytes.Unite(ByteSet::Range(edge.first, edge.last));
  return bytes;
}

const Machine::Edge* Machine::Find(uint32_t state, uint8_t byte) const {
  const Edge* const edge =
      std::find_if(begin(state), end(state), [&](const Edge& e) { return e.last >= byte; });
  return edge != end(state) && edge->first <= byte ? edge : nullptr;
}

std::optional<Machine::At> Machine::Follow(At at, uint32_t to) const {
  if (!counts_) return At{to, 0};
  uint32_t count = at.count + (states_[at.state].inside ? 0 : 1);
  if (count > count_max_) {
    if (!open_ended_) return std::nullopt;
    count = count_max_;
  }
  if (!LeadsFrom(count)[to]) return std::nullopt;
  return At{to, count};
}

std::optional<Machine::At> Machine::Next(At at, uint8_t byte) const {
  const Edge* const edge = Find(at.state, byte);
  return edge != nullptr ? Follow(at, edge->to) : std::nullopt;
}

bool Machine::Accepts(At at) const {
  return states_[at.state].accepts && (!counts_ || at.count >= length_min_);
}

bool Machine::Ends(At at) const {
  return std::none_of(begin(at.state), end(at.state),
                      [&](const Edge& edge) { return Follow(at, edge.to).has_value(); });
}

bool Machine::Matches(std::string_view text) const {
  if (empty()) return false;
  std::optional<At> at = start();
  for (const char byte : text) {
    at = Next(*at, static_cast<uint8_t>(byte));
    if (!at) return false;
  }
  return Accepts(*at);
}

ByteSet Machine::Alike(At at, uint8_t byte) const {
  const Edge* const edge = Find(at.state, byte);
  ByteSet bytes;
  for (const Edge* other = begin(at.state); other != end(at.state); ++other) {
    if (edge == nullptr || other->to == edge->to) {
      bytes.Unite(ByteSet::Range(other->first, other->last));
    }
  }
  return bytes;
}

}  // namespace shoal::text::grammar
