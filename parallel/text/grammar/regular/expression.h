#pragma once

// A language of byte strings as a graph of nodes: what a schema or regular expression becomes.
//
// Nodes are immutable and shared; rules are the only way to recursion. Counted repetitions stay one
// node, so the graph is never much larger than its source.

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/grammar/regular/byte_set.h"
#include "parallel/text/grammar/regular/machine.h"

namespace shoal::text::grammar {

using NodeId = uint32_t;

constexpr uint32_t kUnlimited = std::numeric_limits<uint32_t>::max();
constexpr size_t kNodesMax = size_t{1} << 16;
// Rules inside rules, so also how deep JSON may nest through them.
constexpr uint32_t kRuleDepthMax = 32;

enum class NodeKind : uint8_t { kBytes, kLiteral, kMachine, kSequence, kChoice, kRepeat, kRule };

struct Node {
  NodeKind kind = NodeKind::kSequence;
  bool nullable = false;    // It matches the empty string.
  bool uses_rules = false;  // A rule can be reached from it.
  uint32_t height = 0;      // The fewest rules inside each other that a match needs; see Finish.
  // kBytes: its set. kLiteral: its text. kMachine: its machine. Else: its first child.
  uint32_t index = 0;
  uint32_t count = 0;       // kSequence, kChoice: children. The others have one child or none.
  uint32_t repeat_min = 0;  // kRepeat.
  uint32_t repeat_max = 0;  // kRepeat; kUnlimited: no bound.
};

// Threading: thread-compatible; immutable after Finish.
// Errors:    kInvalidArgument beyond kNodesMax.
class Expression {
 public:
  // Bytes outside `expressible` can never be produced: alternatives that need one are dropped. A
  // part that nothing matches never stands inside another, but through a rule.
  explicit Expression(const ByteSet& expressible);

  static constexpr NodeId kEmpty = 0;  // Matches the empty string only.

  NodeId Bytes(ByteSet set);
  NodeId Literal(std::string_view text);
  // Matches what the machine does.
  NodeId Matching(Machine machine);
  NodeId Sequence(std::span<const NodeId> parts);
  NodeId Sequence(std::initializer_list<NodeId> parts) {
    return Sequence({parts.begin(), parts.size()});
  }
  // Alternatives; none at all matches nothing.
  NodeId Choice(std::span<const NodeId> options);
  NodeId Choice(std::initializer_list<NodeId> options) {
    return Choice({options.begin(), options.size()});
  }
  NodeId Repeat(NodeId body, uint32_t min, uint32_t max);
  NodeId Optional(NodeId body) { return Repeat(body, 0, 1); }

  // A rule to be defined later, once. It must not match the empty string.
  NodeId Rule();
  void Define(NodeId rule, NodeId body);

  // True if nothing matches it, as far as can be said without following rules.
  bool IsImpossible(NodeId id) const;

  // Computes the heights and makes `root` the start. Errors: kInvalidArgument if nothing finite
  // matches, saying so, or naming the first byte that was wanted and is not expressible.
  void Finish(NodeId root);

  NodeId root() const { return root_; }
  const Node& node(NodeId id) const { return nodes_[id]; }
  const ByteSet& set(const Node& node) const { return sets_[node.index]; }
  const std::string& text(const Node& node) const { return texts_[node.index]; }
  const Machine& machine(const Node& node) const { return machines_[node.index]; }
  NodeId child(const Node& node, uint32_t i) const { return children_[node.index + i]; }
  size_t node_count() const { return nodes_.size(); }
  const ByteSet& expressible() const { return expressible_; }
  MachineBudget& machine_budget() { return machine_budget_; }

 private:
  NodeId Add(Node node);
  // Keeps the first byte that was wanted and can never be produced, for Finish's message. Result:
  // whether `bytes` has such bytes.
  bool NoteMissing(ByteSet bytes);
  uint32_t AddChildren(std::span<const NodeId> children);
  // The same without the empty match, where that is simple; else the node itself.
  NodeId WithoutEmpty(NodeId id);
  uint32_t HeightOf(const Node& node) const;

  const ByteSet expressible_;
  std::vector<Node> nodes_;
  std::vector<NodeId> children_;
  std::vector<ByteSet> sets_;
  std::vector<std::string> texts_;
  std::vector<Machine> machines_;
  MachineBudget machine_budget_;
  std::map<ByteSet, NodeId> node_of_set_;
  int32_t missing_byte_ = -1;
  NodeId root_ = kEmpty;
};

}  // namespace shoal::text::grammar
