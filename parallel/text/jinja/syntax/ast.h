#pragma once

// The tree of a parsed template.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/text/jinja/value.h"

namespace shoal::text::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum class Kind : uint8_t {
    kConstant,     // constant
    kName,         // name
    kList,         // children
    kTuple,        // children
    kMapping,      // children: key, value, key, value, ...
    kAttribute,    // children[0].name
    kItem,         // children[0][children[1]]
    kSlice,        // children[0][children[1]:children[2]:children[3]]; parts may be null
    kCall,         // children[0](children[1..], keywords)
    kFilter,       // children[0] | name(children[1..], keywords)
    kTest,         // children[0] is name(children[1..], keywords)
    kUnary,        // name children[0]; name is "-", "+" or "not"
    kBinary,       // children[0] name children[1]; arithmetic and "~"
    kLogical,      // children[0] name children[1]; "and", "or"
    kComparison,   // children[0] operators[0] children[1] operators[1] children[2] ...
    kConditional,  // children[0] if children[1] else children[2]; the last may be null
  };
  Kind kind = Kind::kConstant;
  int line = 1;
  int depth = 1;
  std::string name;
  Value constant;
  std::vector<ExprPtr> children;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  std::vector<std::string> operators;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct Stmt {
  enum class Kind : uint8_t {
    kData,      // Writes `text`.
    kOutput,    // Writes `value`.
    kIf,        // value; body; otherwise
    kFor,       // for targets in value if test; body; otherwise
    kSet,       // targets = value, or targets[0].attribute = value
    kSetBlock,  // targets[0] (.attribute) = what body writes, through the filters of `value`
    kMacro,     // text(targets with defaults)
    kScope,     // body, where it stands; for {% generation %}
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kData;
  int line = 1;
  std::string text;
  std::string attribute;
  std::vector<std::string> targets;
  bool unpack = false;            // The targets are a tuple, even if there is one.
  std::vector<ExprPtr> defaults;  // One for each target of a macro; may be null.
  ExprPtr value;
  ExprPtr test;
  Body body;
  Body otherwise;
};

// In a kSetBlock's `value`, the name that stands for what the body wrote. No template can spell it.
inline constexpr const char* kBlockText = " block";

}  // namespace shoal::text::jinja
