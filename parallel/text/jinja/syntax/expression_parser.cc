// Recursive descent over Jinja's expression grammar, whose precedence is, from loose to tight:
// if/else, or, and, not, comparisons and `in`, + and -, ~, * / // %, **, unary - and +, then
// postfix and filters. Filters and tests bind tighter than any operator.

#include "parallel/text/jinja/syntax/expression_parser.h"

#include <algorithm>
#include <charconv>

#include "parallel/text/jinja/builtins/builtins.h"

namespace shoal::text::jinja {
namespace {

using Kind = Expr::Kind;

bool IsKeyword(const std::string& name) {
  static constexpr std::string_view kKeywords[] = {"and", "or", "not", "in", "is", "if", "else"};
  return std::find(std::begin(kKeywords), std::end(kKeywords), name) != std::end(kKeywords);
}

// Names that Jinja defines and this does not: taken for undefined, they would render wrongly.
bool IsUnsupportedName(const std::string& name) {
  static constexpr std::string_view kNames[] = {"caller", "varargs", "kwargs", "super",
                                                "self",   "lipsum",  "cycler", "joiner"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

std::string Describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kData:
      return "text";
    case Token::Kind::kBlockBegin:
      return "{%";
    case Token::Kind::kBlockEnd:
      return "%}";
    case Token::Kind::kVariableBegin:
      return "{{";
    case Token::Kind::kVariableEnd:
      return "}}";
    case Token::Kind::kEnd:
      return "the end of the template";
    default:
      return "'" + token.text + "'";
  }
}

// Counts how deep the parser itself recurses.
class Nesting {
 public:
  Nesting(int& level, int line) : level_(level) {
    if (++level_ > kTreeDepthMax) Refuse(line, "expressions nest too deep");
  }
  ~Nesting() { --level_; }

 private:
  int& level_;
};

}  // namespace

const Token& ExpressionParser::Peek(size_t ahead) const {
  return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
}

Token ExpressionParser::Next() {
  const Token& token = Peek();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool ExpressionParser::TakeOperator(std::string_view text) {
  if (!Peek().Is(Token::Kind::kOperator, text)) return false;
  Next();
  return true;
}

bool ExpressionParser::TakeName(std::string_view text) {
  if (!Peek().Is(Token::Kind::kName, text)) return false;
  Next();
  return true;
}

void ExpressionParser::ExpectOperator(std::string_view text) {
  if (!TakeOperator(text)) RefuseToken("'" + std::string(text) + "'");
}

void ExpressionParser::ExpectName(std::string_view text) {
  if (!TakeName(text)) RefuseToken("'" + std::string(text) + "'");
}

std::string ExpressionParser::ExpectVariable() {
  if (Peek().kind != Token::Kind::kName || IsKeyword(Peek().text)) RefuseToken("a name");
  return Next().text;
}

void ExpressionParser::RefuseToken(const std::string& expected) const {
  Refuse(Peek().line, "expected " + expected + ", found " + Describe(Peek()));
}

void ExpressionParser::CheckDepth(Expr& node, const ExprPtr& child) {
  if (child == nullptr) return;
  node.depth = std::max(node.depth, child->depth + 1);
  if (node.depth > kTreeDepthMax) Refuse(node.line, "an expression has too many parts");
}

void ExpressionParser::AddChild(Expr& node, ExprPtr child) {
  CheckDepth(node, child);
  node.children.push_back(std::move(child));
}

ExprPtr ExpressionParser::Node(Kind kind, int line, std::string name, ExprPtr first,
                               ExprPtr second) {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->line = line;
  node->name = std::move(name);
  if (first != nullptr) AddChild(*node, std::move(first));
  if (second != nullptr) AddChild(*node, std::move(second));
  return node;
}

ExprPtr ExpressionParser::Tuple(bool conditional) {
  const int line = Peek().line;
  ExprPtr first = Expression(conditional);
  if (!Peek().Is(Token::Kind::kOperator, ",")) return first;
  ExprPtr tuple = Node(Kind::kTuple, line, "", std::move(first));
  while (TakeOperator(",")) {
    const Token& next = Peek();
    if (next.kind == Token::Kind::kBlockEnd || next.kind == Token::Kind::kVariableEnd ||
        next.Is(Token::Kind::kOperator, ")")) {
      break;
    }
    AddChild(*tuple, Expression(conditional));
  }
  return tuple;
}

ExprPtr ExpressionParser::Expression(bool conditional) {
  const Nesting nesting(nesting_, Peek().line);
  ExprPtr expr = Or();
  while (conditional && Peek().Is(Token::Kind::kName, "if")) {
    const int line = Next().line;
    ExprPtr test = Or();
    expr = Node(Kind::kConditional, line, "", std::move(expr), std::move(test));
    AddChild(*expr, TakeName("else") ? Expression() : nullptr);
  }
  return expr;
}

ExprPtr ExpressionParser::Or() {
  ExprPtr left = And();
  while (Peek().Is(Token::Kind::kName, "or")) {
    const int line = Next().line;
    left = Node(Kind::kLogical, line, "or", std::move(left), And());
  }
  return left;
}

ExprPtr ExpressionParser::And() {
  ExprPtr left = Not();
  while (Peek().Is(Token::Kind::kName, "and")) {
    const int line = Next().line;
    left = Node(Kind::kLogical, line, "and", std::move(left), Not());
  }
  return left;
}

ExprPtr ExpressionParser::Not() {
  if (!Peek().Is(Token::Kind::kName, "not")) return Comparison();
  const Nesting nesting(nesting_, Peek().line);
  const int line = Next().line;
  return Node(Kind::kUnary, line, "not", Not());
}

ExprPtr ExpressionParser::Comparison() {
  ExprPtr expr = Sum();
  ExprPtr comparison;
  while (true) {
    const Token& token = Peek();
    std::string name;
    if (token.kind == Token::Kind::kOperator &&
        (token.text == "==" || token.text == "!=" || token.text == "<" || token.text == "<=" ||
         token.text == ">" || token.text == ">=")) {
      name = token.text;
    } else if (token.Is(Token::Kind::kName, "in")) {
      name = "in";
    } else if (token.Is(Token::Kind::kName, "not") && Peek(1).Is(Token::Kind::kName, "in")) {
      Next();
      name = "not in";
    } else {
      return comparison != nullptr ? std::move(comparison) : std::move(expr);
    }
    const int line = Next().line;
    if (comparison == nullptr) comparison = Node(Kind::kComparison, line, "", std::move(expr));
    comparison->operators.push_back(name);
    AddChild(*comparison, Sum());
  }
}

ExprPtr ExpressionParser::Sum() {
  ExprPtr left = Concatenation();
  while (Peek().Is(Token::Kind::kOperator, "+") || Peek().Is(Token::Kind::kOperator, "-")) {
    const Token token = Next();
    left = Node(Kind::kBinary, token.line, token.text, std::move(left), Concatenation());
  }
  return left;
}

ExprPtr ExpressionParser::Concatenation() {
  ExprPtr left = Product();
  while (Peek().Is(Token::Kind::kOperator, "~")) {
    const int line = Next().line;
    left = Node(Kind::kBinary, line, "~", std::move(left), Product());
  }
  return left;
}

ExprPtr ExpressionParser::Product() {
  ExprPtr left = Power();
  while (Peek().kind == Token::Kind::kOperator &&
         (Peek().text == "*" || Peek().text == "/" || Peek().text == "//" || Peek().text == "%")) {
    const Token token = Next();
    left = Node(Kind::kBinary, token.line, token.text, std::move(left), Power());
  }
  return left;
}

ExprPtr ExpressionParser::Power() {
  ExprPtr left = Unary(true);
  while (Peek().Is(Token::Kind::kOperator, "**")) {
    const int line = Next().line;
    left = Node(Kind::kBinary, line, "**", std::move(left), Unary(true));
  }
  return left;
}

ExprPtr ExpressionParser::Unary(bool with_filter) {
  const Nesting nesting(nesting_, Peek().line);
  ExprPtr expr;
  if (Peek().Is(Token::Kind::kOperator, "-") || Peek().Is(Token::Kind::kOperator, "+")) {
    const Token token = Next();
    expr = Node(Kind::kUnary, token.line, token.text, Unary(false));
  } else {
    expr = Primary();
  }
  expr = Postfix(std::move(expr));
  return with_filter ? Filters(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::Primary() {
  const Token& token = Peek();
  ExprPtr node = Node(Kind::kConstant, token.line, "", nullptr);
  if (token.kind == Token::Kind::kName) {
    if (token.text == "true" || token.text == "True") {
      node->constant = true;
    } else if (token.text == "false" || token.text == "False") {
      node->constant = false;
    } else if (token.text == "none" || token.text == "None") {
      node->constant = None{};
    } else {
      node->kind = Kind::kName;
      node->name = ExpectVariable();
      if (IsUnsupportedName(node->name)) {
        Refuse(node->line, "'" + node->name + "' is not supported");
      }
      return node;
    }
    Next();
  } else if (token.kind == Token::Kind::kString) {
    Text text;
    while (Peek().kind == Token::Kind::kString) text.Append(Next().text, false);
    node->constant = std::move(text);
  } else if (token.kind == Token::Kind::kInteger) {
    const std::string digits = Next().text;
    int64_t value = 0;
    const auto end = digits.data() + digits.size();
    if (std::from_chars(digits.data(), end, value).ec != std::errc()) {
      Refuse(node->line, "the integer " + digits + " is too large");
    }
    node->constant = value;
  } else if (token.kind == Token::Kind::kFloat) {
    const std::string digits = Next().text;
    double value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    node->constant = value;
  } else if (TakeOperator("(")) {
    if (TakeOperator(")")) {
      node->kind = Kind::kTuple;
      return node;
    }
    node = Tuple();
    ExpectOperator(")");
  } else if (TakeOperator("[")) {
    node->kind = Kind::kList;
    while (!TakeOperator("]")) {
      AddChild(*node, Expression());
      if (!Peek().Is(Token::Kind::kOperator, "]")) ExpectOperator(",");
    }
  } else if (Peek().Is(Token::Kind::kOperator, "{")) {
    return MappingLiteral();
  } else {
    RefuseToken("an expression");
  }
  return node;
}

ExprPtr ExpressionParser::MappingLiteral() {
  ExprPtr node = Node(Kind::kMapping, Next().line, "", nullptr);
  while (!TakeOperator("}")) {
    AddChild(*node, Expression());
    ExpectOperator(":");
    AddChild(*node, Expression());
    if (!Peek().Is(Token::Kind::kOperator, "}")) ExpectOperator(",");
  }
  return node;
}

ExprPtr ExpressionParser::Postfix(ExprPtr expr) {
  while (true) {
    const int line = Peek().line;
    if (TakeOperator(".")) {
      if (Peek().kind == Token::Kind::kInteger) {
        ExprPtr index = Primary();
        expr = Node(Kind::kItem, line, "", std::move(expr), std::move(index));
      } else if (Peek().kind == Token::Kind::kName) {
        expr = Node(Kind::kAttribute, line, Next().text, std::move(expr));
      } else {
        RefuseToken("a name");
      }
    } else if (Peek().Is(Token::Kind::kOperator, "[")) {
      expr = Subscript(std::move(expr));
    } else if (Peek().Is(Token::Kind::kOperator, "(")) {
      expr = Node(Kind::kCall, line, "", std::move(expr));
      Arguments(*expr);
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::Subscript(ExprPtr expr) {
  const int line = Next().line;
  ExprPtr parts[3];
  int colons = 0;
  while (!Peek().Is(Token::Kind::kOperator, "]")) {
    if (TakeOperator(":")) {
      if (++colons > 2) RefuseToken("']'");
    } else if (parts[colons] == nullptr) {
      parts[colons] = Expression();
    } else {
      RefuseToken("']'");
    }
  }
  if (colons == 0 && parts[0] == nullptr) RefuseToken("an index");
  Next();
  if (colons == 0) return Node(Kind::kItem, line, "", std::move(expr), std::move(parts[0]));
  ExprPtr slice = Node(Kind::kSlice, line, "", std::move(expr));
  for (ExprPtr& part : parts) AddChild(*slice, std::move(part));
  return slice;
}

void ExpressionParser::Arguments(Expr& call) {
  ExpectOperator("(");
  while (!TakeOperator(")")) {
    if (Peek().Is(Token::Kind::kOperator, "*") || Peek().Is(Token::Kind::kOperator, "**")) {
      Refuse(Peek().line, "unpacked arguments (* and **) are not supported");
    }
    if (Peek().kind == Token::Kind::kName && Peek(1).Is(Token::Kind::kOperator, "=")) {
      std::string name = Next().text;
      Next();
      ExprPtr value = Expression();
      CheckDepth(call, value);
      call.keywords.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.keywords.empty()) Refuse(Peek().line, "a positional argument after a named one");
      AddChild(call, Expression());
    }
    if (!Peek().Is(Token::Kind::kOperator, ")")) ExpectOperator(",");
  }
}

ExprPtr ExpressionParser::Filters(ExprPtr expr) {
  while (true) {
    if (TakeOperator("|")) {
      expr = Filter(std::move(expr));
    } else if (TakeName("is")) {
      expr = Test(std::move(expr));
    } else if (Peek().Is(Token::Kind::kOperator, "(")) {
      expr = Node(Kind::kCall, Peek().line, "", std::move(expr));
      Arguments(*expr);
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::FilterChain(ExprPtr input) {
  do {
    input = Filter(std::move(input));
  } while (TakeOperator("|"));
  return input;
}

ExprPtr ExpressionParser::Filter(ExprPtr input) {
  if (Peek().kind != Token::Kind::kName) RefuseToken("a filter's name");
  const Token name = Next();
  // `safe` changes nothing where nothing is escaped, unless its result is joined to other strings,
  // which it would then escape.
  const bool safe = name.text == "safe" && Peek().kind == Token::Kind::kVariableEnd;
  if (safe) return input;
  if (!IsFilter(name.text)) Refuse(name.line, "the filter '" + name.text + "' is not supported");
  ExprPtr node = Node(Kind::kFilter, name.line, name.text, std::move(input));
  if (Peek().Is(Token::Kind::kOperator, "(")) Arguments(*node);
  const bool named = node->children.size() > 1 && node->children[1]->kind == Kind::kConstant &&
                     node->children[1]->constant.IsText();
  const std::string inner = named ? node->children[1]->constant.text().bytes : "";
  if (named && name.text == "map" && !IsFilter(inner)) {
    Refuse(name.line, "the filter '" + inner + "' is not supported");
  }
  return node;
}

ExprPtr ExpressionParser::Test(ExprPtr input) {
  const bool negated = TakeName("not");
  if (Peek().kind != Token::Kind::kName) RefuseToken("a test's name");
  const Token name = Next();
  if (!IsTest(name.text)) Refuse(name.line, "the test '" + name.text + "' is not supported");
  ExprPtr node = Node(Kind::kTest, name.line, name.text, std::move(input));
  const Token& next = Peek();
  if (next.Is(Token::Kind::kOperator, "(")) {
    Arguments(*node);
  } else if ((next.kind == Token::Kind::kName && !IsKeyword(next.text)) ||
             next.Is(Token::Kind::kName, "not") || next.kind == Token::Kind::kString ||
             next.kind == Token::Kind::kInteger || next.kind == Token::Kind::kFloat ||
             next.Is(Token::Kind::kOperator, "[") || next.Is(Token::Kind::kOperator, "{")) {
    AddChild(*node, Postfix(Primary()));
  }
  return negated ? Node(Kind::kUnary, name.line, "not", std::move(node)) : std::move(node);
}

}  // namespace shoal::text::jinja
