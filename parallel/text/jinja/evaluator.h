#pragma once

// Runs a parsed template.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parallel/text/jinja/builtins/builtins.h"
#include "parallel/text/jinja/syntax/ast.h"
#include "parallel/text/jinja/value.h"

namespace shoal::text::jinja {

// Bounds on one rendering: templates come with models, and messages from anyone.
struct RenderLimits {
  // Nodes evaluated and values compared, plus one for each 32 bytes copied or compared. On a
  // current core 20 million take about a second.
  int64_t operations_max = 10'000'000;
  size_t output_bytes_max = size_t{64} << 20;
  int depth_max = 400;  // Of the evaluator's recursion, macro calls included.
};

// The variables of a block, and the block around it.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string, Value>> variables;

  const Value* Find(const std::string& name) const;
  void Set(const std::string& name, Value value);
};

// A mutable record: {% set ns.x = 1 %}.
class Namespace : public Object {
 public:
  const char* type_name() const override { return "Namespace"; }

  Scope members;
};

// For one rendering. Thread-compatible.
class Evaluator {
 public:
  // `unix_seconds`: what strftime_now tells; none: there is no such function.
  explicit Evaluator(const RenderLimits& limits, std::optional<int64_t> unix_seconds = {})
      : limits_(limits), unix_seconds_(unix_seconds) {}
  ~Evaluator();

  // Errors: kInvalidArgument, with the line, for whatever the template cannot do with the
  // variables, and beyond a limit.
  Text Render(const Body& body, std::vector<std::pair<std::string, Value>> variables);

  // For filters, tests, methods and functions.
  [[noreturn]] void Fail(const std::string& message) const;
  void Charge(size_t operations);
  void ChargeBytes(size_t bytes) { Charge(bytes / 32 + 1); }
  // In that scope alone, which is searched from its beginning.
  const Value* Find(const Scope& scope, const std::string& name);
  void Set(Scope& scope, const std::string& name, Value value);
  Value Call(const Value& callee, const Arguments& arguments);
  std::shared_ptr<Namespace> MakeNamespace();
  std::optional<int64_t> unix_seconds() const { return unix_seconds_; }

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  class Depth;

  Flow Run(const Body& body);
  Flow Run(const Stmt& statement);
  Flow RunFor(const Stmt& statement);
  void RunSet(const Stmt& statement);
  Text RunInto(const Body& body);
  void Assign(const Stmt& statement, const Value& value);
  void Unpack(const Stmt& statement, const Value& item);
  void Write(const Text& text);

  Value Evaluate(const Expr& expr);
  Value EvaluateName(const Expr& expr);
  Value EvaluateMapping(const Expr& expr);
  Value EvaluateCall(const Expr& expr);
  Value EvaluateSlice(const Expr& expr);
  Value EvaluateUnary(const Expr& expr);
  Value EvaluateComparison(const Expr& expr);
  std::vector<Value> EvaluateAll(const std::vector<ExprPtr>& exprs, size_t from);
  Arguments EvaluateArguments(const Expr& expr);
  Value CallMacro(const Stmt& macro, Scope* definition, const Arguments& arguments);

  Scope* Push(Scope* parent);
  void Pop(Scope* previous);

  const RenderLimits limits_;
  const std::optional<int64_t> unix_seconds_;
  int64_t operations_ = 0;
  int depth_ = 0;
  int line_ = 1;
  int macro_count_ = 0;
  // Scopes and namespaces stay until the end: macros refer to the scopes they were defined in, and
  // namespaces may refer to each other in circles.
  std::deque<Scope> scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  Scope* scope_ = nullptr;
  Text* out_ = nullptr;
};

}  // namespace shoal::text::jinja
