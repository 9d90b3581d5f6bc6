#include "parallel/text/grammar/regular/expression.h"

#include <algorithm>
#include <cstdio>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

constexpr uint32_t kImpossible = kUnlimited;

}  // namespace

Expression::Expression(const ByteSet& expressible) : expressible_(expressible) {
  Add({.kind = NodeKind::kSequence, .nullable = true});
}

NodeId Expression::Add(Node node) {
  if (nodes_.size() >= kNodesMax) {
    Throw(ErrorCode::kInvalidArgument, "it needs more than ", kNodesMax,
          " nodes: use fewer properties, alternatives or characters");
  }
  nodes_.push_back(node);
  return static_cast<NodeId>(nodes_.size() - 1);
}

bool Expression::IsImpossible(NodeId id) const {
  const Node& node = nodes_[id];
  return (node.kind == NodeKind::kBytes && set(node).empty()) ||
         (node.kind == NodeKind::kChoice && node.count == 0);
}

uint32_t Expression::AddChildren(std::span<const NodeId> children) {
  const auto first = static_cast<uint32_t>(children_.size());
  children_.insert(children_.end(), children.begin(), children.end());
  return first;
}

bool Expression::NoteMissing(ByteSet bytes) {
  bytes.Remove(expressible_);
  if (bytes.empty()) return false;
  if (missing_byte_ < 0) missing_byte_ = bytes.First();
  return true;
}

NodeId Expression::Bytes(ByteSet set) {
  NoteMissing(set);
  set.KeepOnly(expressible_);
  const auto [entry, is_new] = node_of_set_.try_emplace(set, 0);
  if (!is_new) return entry->second;
  sets_.push_back(set);
  entry->second = Add({.kind = NodeKind::kBytes, .index = static_cast<uint32_t>(sets_.size() - 1)});
  return entry->second;
}

NodeId Expression::Literal(std::string_view text) {
  if (text.empty()) return kEmpty;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (!expressible_.Has(byte)) return Bytes(ByteSet::Range(byte, byte));  // Matches nothing.
  }
  texts_.emplace_back(text);
  return Add({.kind = NodeKind::kLiteral, .index = static_cast<uint32_t>(texts_.size() - 1)});
}

NodeId Expression::Matching(Machine machine) {
  if (NoteMissing(machine.bytes())) machine = machine.Restricted(expressible_, machine_budget_);
  if (machine.empty()) return Choice({});
  const bool nullable = machine.Accepts(Machine::start());
  machines_.push_back(std::move(machine));
  return Add({.kind = NodeKind::kMachine,
              .nullable = nullable,
              .index = static_cast<uint32_t>(machines_.size() - 1)});
}

NodeId Expression::Sequence(std::span<const NodeId> parts) {
  std::vector<NodeId> kept;
  Node node{.kind = NodeKind::kSequence, .nullable = true};
  for (const NodeId part : parts) {
    if (part == kEmpty) continue;
    if (IsImpossible(part)) return part;
    kept.push_back(part);
    node.nullable = node.nullable && nodes_[part].nullable;
    node.uses_rules = node.uses_rules || nodes_[part].uses_rules;
  }
  if (kept.empty()) return kEmpty;
  if (kept.size() == 1) return kept[0];
  node.index = AddChildren(kept);
  node.count = static_cast<uint32_t>(kept.size());
  return Add(node);
}

NodeId Expression::Choice(std::span<const NodeId> options) {
  std::vector<NodeId> kept;
  Node node{.kind = NodeKind::kChoice};
  bool empty = false;
  for (const NodeId option : options) {
    if (IsImpossible(option)) continue;
    node.nullable = node.nullable || nodes_[option].nullable;
    node.uses_rules = node.uses_rules || nodes_[option].uses_rules;
    empty = empty || option == kEmpty;
    if (option != kEmpty) kept.push_back(option);
  }
  // Last, so that whoever follows the first alternatives soon meets a byte.
  if (empty) kept.push_back(kEmpty);
  if (kept.size() == 1) return kept[0];
  node.index = AddChildren(kept);
  node.count = static_cast<uint32_t>(kept.size());
  return Add(node);
}

NodeId Expression::Repeat(NodeId body, uint32_t min, uint32_t max) {
  SHOAL_CHECK(min <= max, min, " to ", max);
  if (body == kEmpty || max == 0) return kEmpty;
  if (IsImpossible(body)) return min == 0 ? kEmpty : body;
  if (min == 1 && max == 1) return body;
  const bool nullable = nodes_[body].nullable;
  const bool uses_rules = nodes_[body].uses_rules;
  // Rounds that match nothing may as well be left out; then there are fewer ways to count.
  if (nullable) body = WithoutEmpty(body);
  return Add({.kind = NodeKind::kRepeat,
              .nullable = nullable || min == 0,
              .uses_rules = uses_rules,
              .index = AddChildren({&body, 1}),
              .repeat_min = nullable ? 0 : min,
              .repeat_max = max});
}

NodeId Expression::WithoutEmpty(NodeId id) {
  const Node node = nodes_[id];
  if (node.kind == NodeKind::kRepeat && !nodes_[child(node, 0)].nullable) {
    return Repeat(child(node, 0), 1, node.repeat_max);
  }
  if (node.kind != NodeKind::kChoice) return id;
  std::vector<NodeId> options;
  for (uint32_t i = 0; i < node.count; ++i) {
    const NodeId option = child(node, i);
    if (option != kEmpty) options.push_back(option);
  }
  return Choice(options);
}

NodeId Expression::Rule() {
  const NodeId none = kEmpty;
  return Add({.kind = NodeKind::kRule, .uses_rules = true, .index = AddChildren({&none, 1})});
}

void Expression::Define(NodeId rule, NodeId body) {
  SHOAL_CHECK(nodes_[rule].kind == NodeKind::kRule && !nodes_[body].nullable, "rule ", rule);
  children_[nodes_[rule].index] = body;
}

uint32_t Expression::HeightOf(const Node& node) const {
  uint32_t height = node.kind == NodeKind::kChoice ? kImpossible : 0;
  switch (node.kind) {
    case NodeKind::kBytes:
      return set(node).empty() ? kImpossible : 0;
    case NodeKind::kLiteral:
    case NodeKind::kMachine:
      return 0;
    case NodeKind::kSequence:
      for (uint32_t i = 0; i < node.count; ++i) {
        height = std::max(height, nodes_[child(node, i)].height);
      }
      return height;
    case NodeKind::kChoice:
      for (uint32_t i = 0; i < node.count; ++i) {
        height = std::min(height, nodes_[child(node, i)].height);
      }
      return height;
    case NodeKind::kRepeat:
      return node.repeat_min == 0 ? 0 : nodes_[child(node, 0)].height;
    case NodeKind::kRule:
      break;
  }
  const uint32_t body = nodes_[child(node, 0)].height;
  return body >= kRuleDepthMax ? kImpossible : body + 1;
}

void Expression::Finish(NodeId root) {
  for (Node& node : nodes_) node.height = kImpossible;
  // Children come before their parents except through rules, so each pass settles the nodes that
  // need one more rule.
  for (bool changed = true; changed;) {
    changed = false;
    for (Node& node : nodes_) {
      const uint32_t height = HeightOf(node);
      changed = changed || height != node.height;
      node.height = height;
    }
  }
  root_ = root;
  if (nodes_[root].height <= kRuleDepthMax) return;
  if (missing_byte_ >= 0) {
    char digits[16];
    std::snprintf(digits, sizeof(digits), "0x%02x", static_cast<unsigned>(missing_byte_));
    Throw(ErrorCode::kInvalidArgument, "the model's vocabulary has no token for the byte ", digits,
          ", which it may need");
  }
  Throw(ErrorCode::kInvalidArgument, "nothing finite matches it within ", kRuleDepthMax,
        " nested references: give each recursion a way to end");
}

}  // namespace shoal::text::grammar
