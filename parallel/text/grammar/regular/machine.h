#pragma once

// A finite automaton over bytes, made completely (an Automaton is made as far as it is used): for
// what must hold of a text all at once, such as two patterns, a pattern and a length, or bounds and
// a divisor.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "parallel/text/grammar/regular/byte_set.h"

namespace shoal::text::grammar {

// The work that the machines of one grammar may take together, in units of about a nanosecond. It
// bounds their memory too: an edge counts as much as its eight bytes take to make.
class MachineBudget {
 public:
  static constexpr uint64_t kWorkMax = uint64_t{1} << 25;
  static constexpr uint64_t kEdgeWork = 64;
  // A state found by walking an expression, and each part opened on the way.
  static constexpr uint64_t kWalkedStateWork = 2048;
  static constexpr uint64_t kUnfoldedWork = 8;

  // Errors: kInvalidArgument where that is more than is left.
  void Take(uint64_t work);

 private:
  uint64_t left_ = kWorkMax;
};

// Immutable. Every state leads to a match.
class Machine {
 public:
  struct Edge {
    uint8_t first = 0;
    uint8_t last = 0;  // Included.
    uint32_t to = 0;
  };
  struct State {
    std::vector<Edge> edges = {};  // In order, disjoint.
    bool accepts = false;
    // Within a character of several bytes. Lengths count a character where it begins.
    bool inside = false;

    // Adds an edge after all others; adjacent edges to the same state become one.
    void Append(uint8_t first, uint8_t last, uint32_t to);
  };
  // How far a text has come.
  struct At {
    uint32_t state = 0;
    uint32_t count = 0;  // Characters begun, as far as lengths need them.
  };

  // Begins in the first state; keeps those that lead to a match.
  Machine(const std::vector<State>& states, MachineBudget& budget);

  // What both match; what `a` matches and `b` does not.
  static Machine Intersect(const Machine& a, const Machine& b, MachineBudget& budget);
  static Machine Subtract(const Machine& a, const Machine& b, MachineBudget& budget);
  // The matches of `min` to `max` characters (UINT32_MAX: no bound). Precondition: not done before.
  Machine WithLengths(uint32_t min, uint32_t max, MachineBudget& budget) const;
  // Without the edges of other bytes.
  Machine Restricted(const ByteSet& bytes, MachineBudget& budget) const;

  bool empty() const { return states_.empty(); }  // Nothing matches.
  ByteSet bytes() const;                          // The bytes that some edge takes.
  static At start() { return {}; }
  std::optional<At> Next(At at, uint8_t byte) const;
  bool Accepts(At at) const;
  bool Ends(At at) const;  // No byte may follow.
  bool Matches(std::string_view text) const;
  // If `byte` has an edge: the bytes that lead to the same state. Else: all that have one.
  ByteSet Alike(At at, uint8_t byte) const;

 private:
  struct Span {
    uint32_t edges_begin = 0;
    uint32_t edges_end = 0;
    bool accepts = false;
    bool inside = false;
  };

  static Machine Product(const Machine& a, const Machine& b, bool subtract, MachineBudget& budget);
  const Edge* begin(uint32_t state) const { return edges_.data() + states_[state].edges_begin; }
  const Edge* end(uint32_t state) const { return edges_.data() + states_[state].edges_end; }
  std::vector<State> Copy() const;
  const Edge* Find(uint32_t state, uint8_t byte) const;
  std::optional<At> Follow(At at, uint32_t to) const;
  // Whether the states lead to a match after so many characters.
  const std::vector<bool>& LeadsFrom(uint32_t count) const;
  // The same, from `after`, which is that of one character more.
  std::vector<bool> LeadsBefore(const std::vector<bool>& after, bool accepts_here) const;

  std::vector<Span> states_;
  std::vector<Edge> edges_;
  // Where lengths are bounded. Counts go up to the maximum or, without one, to the minimum, which
  // then stands for all above.
  bool counts_ = false;
  bool open_ended_ = false;
  uint32_t length_min_ = 0;
  uint32_t count_max_ = 0;
  struct CountRange {
    uint32_t count_min = 0;   // The least count; the range ends below that of the range before it.
    std::vector<bool> leads;  // By state: whether it leads to a match after so many characters.
  };
  std::vector<CountRange> ranges_;  // The greatest counts first.
};

}  // namespace shoal::text::grammar
