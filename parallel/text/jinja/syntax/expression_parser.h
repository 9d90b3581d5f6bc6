#pragma once

// The tokens of a template, and its expressions.

#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/jinja/syntax/ast.h"
#include "parallel/text/jinja/syntax/lexer.h"

namespace shoal::text::jinja {

// Trees deeper than this are refused: evaluating and freeing them recurses.
inline constexpr int kTreeDepthMax = 200;

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Peek(size_t ahead = 0) const;
  Token Next();
  bool TakeOperator(std::string_view text);
  bool TakeName(std::string_view text);
  void ExpectOperator(std::string_view text);
  void ExpectName(std::string_view text);
  // Any name that may be a variable.
  std::string ExpectVariable();
  [[noreturn]] void RefuseToken(const std::string& expected) const;

  // One expression; with `conditional`, also `a if b else c`.
  ExprPtr Expression(bool conditional = true);
  // One, or several with commas between: a tuple.
  ExprPtr Tuple(bool conditional = true);
  // `input | filter | filter ...`, from the first filter's name.
  ExprPtr FilterChain(ExprPtr input);

 private:
  ExprPtr Or();
  ExprPtr And();
  ExprPtr Not();
  ExprPtr Comparison();
  ExprPtr Sum();
  ExprPtr Concatenation();
  ExprPtr Product();
  ExprPtr Power();
  ExprPtr Unary(bool with_filter);
  ExprPtr Primary();
  ExprPtr MappingLiteral();
  ExprPtr Postfix(ExprPtr expr);
  ExprPtr Filters(ExprPtr expr);
  ExprPtr Filter(ExprPtr input);
  ExprPtr Test(ExprPtr input);
  ExprPtr Subscript(ExprPtr expr);
  void Arguments(Expr& call);
  // Makes a node of `first` and `second` (which may be null).
  ExprPtr Node(Expr::Kind kind, int line, std::string name, ExprPtr first,
               ExprPtr second = nullptr);
  void AddChild(Expr& node, ExprPtr child);
  void CheckDepth(Expr& node, const ExprPtr& child);

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace shoal::text::jinja
