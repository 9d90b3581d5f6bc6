// Statements, names and calls. Operators are in operators.cc, printing and the built-in functions
// in builtins/.

#include "parallel/text/jinja/evaluator.h"

#include <algorithm>

#include "parallel/text/jinja/objects.h"
#include "parallel/text/jinja/operators.h"
#include "parallel/text/jinja/syntax/lexer.h"

namespace shoal::text::jinja {
namespace {

// Of a scope, as many as are searched in the time of one operation.
constexpr size_t kVariablesPerOperation = 8;

}  // namespace

// One level of the evaluator's recursion.
class Evaluator::Depth {
 public:
  explicit Depth(Evaluator& evaluator) : evaluator_(evaluator) {
    if (evaluator_.depth_ >= evaluator_.limits_.depth_max) evaluator_.Fail("it recurses too deep");
    ++evaluator_.depth_;
  }
  ~Depth() { --evaluator_.depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  Evaluator& evaluator_;
};

const Value* Scope::Find(const std::string& name) const {
  for (const auto& [key, value] : variables) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Scope::Set(const std::string& name, Value value) {
  for (auto& [key, old] : variables) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

Evaluator::~Evaluator() {
  for (const auto& made : namespaces_) made->members.variables.clear();
}

Text Evaluator::Render(const Body& body, std::vector<std::pair<std::string, Value>> variables) {
  Text out;
  out_ = &out;
  scope_ = Push(nullptr);
  scope_->variables = std::move(variables);
  Run(body);
  return out;
}

void Evaluator::Fail(const std::string& message) const { Refuse(line_, message); }

void Evaluator::Charge(size_t operations) {
  operations_ += static_cast<int64_t>(operations);
  if (operations_ > limits_.operations_max) {
    Fail("it takes more than " + std::to_string(limits_.operations_max) +
         " operations; send fewer or shorter messages");
  }
}

const Value* Evaluator::Find(const Scope& scope, const std::string& name) {
  Charge(scope.variables.size() / kVariablesPerOperation);
  return scope.Find(name);
}

void Evaluator::Set(Scope& scope, const std::string& name, Value value) {
  Charge(scope.variables.size() / kVariablesPerOperation);
  scope.Set(name, std::move(value));
}

std::shared_ptr<Namespace> Evaluator::MakeNamespace() {
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

Scope* Evaluator::Push(Scope* parent) {
  scopes_.push_back({parent, {}});
  return &scopes_.back();
}

// Back to `previous`. The scope is freed unless a macro may refer to it.
void Evaluator::Pop(Scope* previous) {
  if (macro_count_ == 0) scopes_.pop_back();
  scope_ = previous;
}

void Evaluator::Write(const Text& text) {
  ChargeBytes(text.bytes.size());
  out_->Append(text);
  if (out_->bytes.size() > limits_.output_bytes_max) {
    Fail("it writes more than " + std::to_string(limits_.output_bytes_max) + " bytes");
  }
}

Evaluator::Flow Evaluator::Run(const Body& body) {
  for (const auto& statement : body) {
    const Flow flow = Run(*statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::Run(const Stmt& statement) {
  const Depth depth(*this);
  line_ = statement.line;
  Charge(1);
  switch (statement.kind) {
    case Stmt::Kind::kData:
      Write(Text(statement.text));
      return Flow::kNext;
    case Stmt::Kind::kOutput:
      Write(ToText(*this, Evaluate(*statement.value)));
      return Flow::kNext;
    case Stmt::Kind::kIf:
      return Run(Truth(Evaluate(*statement.value)) ? statement.body : statement.otherwise);
    case Stmt::Kind::kFor:
      return RunFor(statement);
    case Stmt::Kind::kSet:
    case Stmt::Kind::kSetBlock:
      RunSet(statement);
      return Flow::kNext;
    case Stmt::Kind::kMacro:
      ++macro_count_;
      Set(*scope_, statement.text, ObjectPtr(std::make_shared<MacroObject>(statement, scope_)));
      return Flow::kNext;
    case Stmt::Kind::kScope:
      return Run(statement.body);
    case Stmt::Kind::kBreak:
      return Flow::kBreak;
    case Stmt::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

void Evaluator::Unpack(const Stmt& statement, const Value& item) {
  if (!statement.unpack) {
    Set(*scope_, statement.targets[0], item);
    return;
  }
  const std::vector<Value> parts = Items(*this, item);
  if (parts.size() != statement.targets.size()) {
    Fail("expected " + std::to_string(statement.targets.size()) + " values to unpack, found " +
         std::to_string(parts.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) Set(*scope_, statement.targets[i], parts[i]);
}

Evaluator::Flow Evaluator::RunFor(const Stmt& statement) {
  Scope* const outer = scope_;
  std::vector<Value> items = Items(*this, Evaluate(*statement.value));
  if (statement.test != nullptr) {
    std::vector<Value> kept;
    for (Value& item : items) {
      scope_ = Push(outer);
      Unpack(statement, item);
      if (Truth(Evaluate(*statement.test))) kept.push_back(std::move(item));
      Pop(outer);
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    scope_ = Push(outer);
    const Flow flow = Run(statement.otherwise);
    Pop(outer);
    return flow;
  }
  int64_t nesting = 0;
  for (const Scope* scope = outer; scope != nullptr; scope = scope->parent) {
    nesting += Find(*scope, "loop") != nullptr ? 1 : 0;
  }
  const Value all = MakeSequence(std::move(items));
  const auto count = static_cast<int64_t>(all.sequence().items.size());
  for (int64_t i = 0; i < count; ++i) {
    scope_ = Push(outer);
    Set(*scope_, "loop", ObjectPtr(std::make_shared<LoopObject>(all, i, nesting)));
    Unpack(statement, all.sequence().items[i]);
    const Flow flow = Run(statement.body);
    Pop(outer);
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Text Evaluator::RunInto(const Body& body) {
  Text text;
  Text* const out = std::exchange(out_, &text);
  Run(body);
  out_ = out;
  return text;
}

void Evaluator::RunSet(const Stmt& statement) {
  if (statement.kind == Stmt::Kind::kSet) {
    Assign(statement, Evaluate(*statement.value));
    return;
  }
  Scope* const outer = scope_;
  scope_ = Push(outer);
  Text text = RunInto(statement.body);
  Set(*scope_, kBlockText, std::move(text));
  const Value value = Evaluate(*statement.value);
  Pop(outer);
  Assign(statement, value);
}

void Evaluator::Assign(const Stmt& statement, const Value& value) {
  if (statement.attribute.empty()) {
    Unpack(statement, value);
    return;
  }
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    const Value* target = Find(*scope, statement.targets[0]);
    if (target == nullptr) continue;
    auto* space = target->IsObject() ? dynamic_cast<Namespace*>(target->object().get()) : nullptr;
    if (space == nullptr) break;
    Set(space->members, statement.attribute, value);
    return;
  }
  Fail("cannot assign attribute on non-namespace object '" + statement.targets[0] + "'");
}

Value Evaluator::Evaluate(const Expr& expr) {
  const Depth depth(*this);
  line_ = expr.line;
  Charge(1);
  switch (expr.kind) {
    case Expr::Kind::kConstant:
      return expr.constant;
    case Expr::Kind::kName:
      return EvaluateName(expr);
    case Expr::Kind::kList:
      return MakeSequence(EvaluateAll(expr.children, 0));
    case Expr::Kind::kTuple:
      return MakeSequence(EvaluateAll(expr.children, 0), Sequence::Kind::kTuple);
    case Expr::Kind::kMapping:
      return EvaluateMapping(expr);
    case Expr::Kind::kAttribute:
      return GetAttribute(*this, Evaluate(*expr.children[0]), expr.name);
    case Expr::Kind::kItem: {
      const Value self = Evaluate(*expr.children[0]);
      return GetItem(*this, self, Evaluate(*expr.children[1]));
    }
    case Expr::Kind::kSlice:
      return EvaluateSlice(expr);
    case Expr::Kind::kCall:
      return EvaluateCall(expr);
    case Expr::Kind::kFilter: {
      const Value input = Evaluate(*expr.children[0]);
      return ApplyFilter(*this, expr.name, input, EvaluateArguments(expr));
    }
    case Expr::Kind::kTest: {
      const Value input = Evaluate(*expr.children[0]);
      return ApplyTest(*this, expr.name, input, EvaluateArguments(expr));
    }
    case Expr::Kind::kUnary:
      return EvaluateUnary(expr);
    case Expr::Kind::kBinary: {
      const Value left = Evaluate(*expr.children[0]);
      return Arithmetic(*this, expr.name, left, Evaluate(*expr.children[1]));
    }
    case Expr::Kind::kLogical: {
      Value left = Evaluate(*expr.children[0]);
      return Truth(left) == (expr.name == "or") ? left : Evaluate(*expr.children[1]);
    }
    case Expr::Kind::kComparison:
      return EvaluateComparison(expr);
    case Expr::Kind::kConditional:
      if (Truth(Evaluate(*expr.children[1]))) return Evaluate(*expr.children[0]);
      if (expr.children[2] != nullptr) return Evaluate(*expr.children[2]);
      return Undefined{
          "the inline if-expression evaluated to false and no else section was defined"};
  }
  return Value();
}

Value Evaluator::EvaluateName(const Expr& expr) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    if (const Value* value = Find(*scope, expr.name)) return *value;
  }
  return FindFunction(*this, expr.name);
}

std::vector<Value> Evaluator::EvaluateAll(const std::vector<ExprPtr>& exprs, size_t from) {
  std::vector<Value> values;
  for (size_t i = from; i < exprs.size(); ++i) values.push_back(Evaluate(*exprs[i]));
  return values;
}

Value Evaluator::EvaluateMapping(const Expr& expr) {
  Mapping mapping;
  for (size_t i = 0; i < expr.children.size(); i += 2) {
    const Value key = Evaluate(*expr.children[i]);
    if (!key.IsText()) Fail("a mapping's key is not a string; only strings are supported");
    ChargeBytes(key.text().bytes.size());
    mapping.Set(key.text(), Evaluate(*expr.children[i + 1]));
  }
  return MakeMapping(std::move(mapping));
}

Arguments Evaluator::EvaluateArguments(const Expr& expr) {
  Arguments arguments;
  arguments.positional = EvaluateAll(expr.children, 1);
  for (const auto& [name, value] : expr.keywords) {
    arguments.keywords.emplace_back(name, Evaluate(*value));
  }
  return arguments;
}

Value Evaluator::EvaluateCall(const Expr& expr) {
  const Value callee = Evaluate(*expr.children[0]);
  const Arguments arguments = EvaluateArguments(expr);
  line_ = expr.line;
  return Call(callee, arguments);
}

Value Evaluator::EvaluateSlice(const Expr& expr) {
  const Value self = Evaluate(*expr.children[0]);
  Value parts[3];
  for (size_t i = 0; i < 3; ++i) {
    if (expr.children[i + 1] != nullptr) parts[i] = Evaluate(*expr.children[i + 1]);
  }
  return GetSlice(*this, self, parts[0], parts[1], parts[2]);
}

Value Evaluator::EvaluateUnary(const Expr& expr) {
  const Value value = Evaluate(*expr.children[0]);
  if (expr.name == "not") return !Truth(value);
  if (!value.IsNumber()) {
    Fail("bad operand type for unary " + expr.name + ": '" + value.type_name() + "'");
  }
  const Value zero = int64_t{0};
  return Arithmetic(*this, expr.name, zero, value);
}

Value Evaluator::EvaluateComparison(const Expr& expr) {
  Value left = Evaluate(*expr.children[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = Evaluate(*expr.children[i + 1]);
    const std::string& op = expr.operators[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = Equal(*this, left, right) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = Contains(*this, right, left) == (op == "in");
    } else {
      const int order = Compare(*this, left, right);
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::Call(const Value& callee, const Arguments& arguments) {
  Charge(1);
  if (callee.IsUndefined()) Fail(callee.undefined());
  const Object* object = callee.IsObject() ? callee.object().get() : nullptr;
  if (const auto* macro = dynamic_cast<const MacroObject*>(object)) {
    return CallMacro(macro->macro, macro->definition, arguments);
  }
  if (const auto* function = dynamic_cast<const FunctionObject*>(object)) {
    return CallFunction(*this, function->name, arguments);
  }
  if (const auto* method = dynamic_cast<const MethodObject*>(object)) {
    return CallMethod(*this, method->self, method->name, arguments);
  }
  Fail(std::string("'") + callee.type_name() + "' object is not callable");
}

Value Evaluator::CallMacro(const Stmt& macro, Scope* definition, const Arguments& arguments) {
  const Depth depth(*this);
  if (arguments.positional.size() > macro.targets.size()) {
    Fail("macro '" + macro.text + "' takes not more than " + std::to_string(macro.targets.size()) +
         " arguments");
  }
  Scope* const caller = scope_;
  scope_ = Push(definition);
  for (const auto& [name, value] : arguments.keywords) {
    const auto found = std::find(macro.targets.begin(), macro.targets.end(), name);
    if (found == macro.targets.end()) {
      Fail("macro '" + macro.text + "' takes no keyword argument '" + name + "'");
    }
    if (found - macro.targets.begin() < static_cast<ptrdiff_t>(arguments.positional.size())) {
      Fail("macro '" + macro.text + "' got multiple values for argument '" + name + "'");
    }
    Set(*scope_, name, value);
  }
  for (size_t i = 0; i < macro.targets.size(); ++i) {
    const std::string& name = macro.targets[i];
    if (i < arguments.positional.size()) {
      Set(*scope_, name, arguments.positional[i]);
    } else if (Find(*scope_, name) == nullptr) {
      Set(*scope_, name,
          macro.defaults[i] != nullptr
              ? Evaluate(*macro.defaults[i])
              : Value(Undefined{"parameter '" + name + "' was not provided"}));
    }
  }
  Text text = RunInto(macro.body);
  scope_ = caller;
  return text;
}

}  // namespace shoal::text::jinja
