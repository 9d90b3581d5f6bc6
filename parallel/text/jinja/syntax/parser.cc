// The statements of a template. What real chat templates do not use (inheritance, includes, call
// blocks, recursive loops) is refused here, by name, so that nothing is rendered in part.

#include "parallel/text/jinja/syntax/parser.h"

#include <algorithm>
#include <initializer_list>

#include "parallel/text/jinja/builtins/builtins.h"
#include "parallel/text/jinja/syntax/expression_parser.h"
#include "parallel/text/jinja/syntax/lexer.h"

namespace shoal::text::jinja {
namespace {

// Blocks in blocks; the parser and the evaluator recurse.
constexpr int kBlockDepthMax = 50;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : in_(std::move(tokens)) {}

  Body Run() {
    Body body = Statements({});
    if (in_.Peek().kind != Token::Kind::kEnd) in_.RefuseToken("the end of the template");
    return body;
  }

 private:
  using Names = std::initializer_list<std::string_view>;
  using StmtPtr = std::unique_ptr<Stmt>;

  // Up to a block that begins with one of `ends`, whose name is then next.
  Body Statements(Names ends) {
    Body body;
    if (++depth_ > kBlockDepthMax) Refuse(in_.Peek().line, "blocks nest too deep");
    while (true) {
      const Token& token = in_.Peek();
      if (token.kind == Token::Kind::kData) {
        StmtPtr data = Make(Stmt::Kind::kData);
        data->text = in_.Next().text;
        body.push_back(std::move(data));
      } else if (token.kind == Token::Kind::kVariableBegin) {
        in_.Next();
        StmtPtr output = Make(Stmt::Kind::kOutput);
        output->value = in_.Tuple();
        if (in_.Next().kind != Token::Kind::kVariableEnd) Refuse(output->line, "expected '}}'");
        body.push_back(std::move(output));
      } else if (token.kind == Token::Kind::kBlockBegin) {
        in_.Next();
        const Token& name = in_.Peek();
        if (name.kind != Token::Kind::kName) in_.RefuseToken("a statement's name");
        if (std::find(ends.begin(), ends.end(), name.text) != ends.end()) break;
        body.push_back(Statement());
      } else {
        if (ends.size() > 0) in_.RefuseToken("{% " + std::string(*(ends.end() - 1)) + " %}");
        break;
      }
    }
    --depth_;
    return body;
  }

  StmtPtr Make(Stmt::Kind kind) {
    auto statement = std::make_unique<Stmt>();
    statement->kind = kind;
    statement->line = in_.Peek().line;
    return statement;
  }

  void ExpectBlockEnd() {
    if (in_.Peek().kind != Token::Kind::kBlockEnd) in_.RefuseToken("'%}'");
    in_.Next();
  }

  // From the name that begins a block to the end of all of it.
  StmtPtr Statement() {
    const Token name = in_.Next();
    if (name.text == "if") return If();
    if (name.text == "for") return For();
    if (name.text == "set") return Set();
    if (name.text == "macro") return Macro();
    if (name.text == "generation") {
      StmtPtr scope = Make(Stmt::Kind::kScope);
      ExpectBlockEnd();
      scope->body = Statements({"endgeneration"});
      in_.Next();
      ExpectBlockEnd();
      return scope;
    }
    if (name.text == "break" || name.text == "continue") {
      if (loops_ == 0) Refuse(name.line, "'" + name.text + "' outside a loop");
      StmtPtr jump = Make(name.text == "break" ? Stmt::Kind::kBreak : Stmt::Kind::kContinue);
      ExpectBlockEnd();
      return jump;
    }
    Refuse(name.line, "the statement '" + name.text + "' is not supported here");
  }

  // After `if` or `elif`.
  StmtPtr If() {
    StmtPtr statement = Make(Stmt::Kind::kIf);
    statement->value = in_.Tuple(false);
    ExpectBlockEnd();
    statement->body = Statements({"elif", "else", "endif"});
    const Token name = in_.Next();
    if (name.text == "elif") {
      // Each elif is an if inside the one before, so it counts as nesting.
      if (++depth_ > kBlockDepthMax) Refuse(name.line, "too many elif");
      statement->otherwise.push_back(If());
      --depth_;
      return statement;
    }
    if (name.text == "else") {
      ExpectBlockEnd();
      statement->otherwise = Statements({"endif"});
      in_.Next();
    }
    ExpectBlockEnd();
    return statement;
  }

  void Targets(Stmt& statement) {
    const bool brackets = in_.TakeOperator("(");
    statement.targets.push_back(in_.ExpectVariable());
    while (in_.TakeOperator(",")) {
      statement.unpack = true;
      if (in_.Peek().kind != Token::Kind::kName || in_.Peek().text == "in") break;
      statement.targets.push_back(in_.ExpectVariable());
    }
    if (brackets) in_.ExpectOperator(")");
  }

  StmtPtr For() {
    StmtPtr statement = Make(Stmt::Kind::kFor);
    Targets(*statement);
    in_.ExpectName("in");
    statement->value = in_.Tuple(false);
    if (in_.TakeName("if")) statement->test = in_.Expression();
    if (in_.Peek().Is(Token::Kind::kName, "recursive")) {
      Refuse(statement->line, "recursive loops are not supported");
    }
    ExpectBlockEnd();
    ++loops_;
    statement->body = Statements({"else", "endfor"});
    --loops_;
    if (in_.Next().text == "else") {
      ExpectBlockEnd();
      statement->otherwise = Statements({"endfor"});
      in_.Next();
    }
    ExpectBlockEnd();
    return statement;
  }

  StmtPtr Set() {
    StmtPtr statement = Make(Stmt::Kind::kSet);
    Targets(*statement);
    if (!statement->unpack && in_.TakeOperator(".")) statement->attribute = in_.ExpectVariable();
    if (in_.TakeOperator("=")) {
      statement->value = in_.Tuple();
      ExpectBlockEnd();
      return statement;
    }
    if (statement->unpack) in_.RefuseToken("'='");
    statement->kind = Stmt::Kind::kSetBlock;
    statement->value = std::make_unique<Expr>();
    statement->value->kind = Expr::Kind::kName;
    statement->value->line = statement->line;
    statement->value->name = kBlockText;
    if (in_.TakeOperator("|")) statement->value = in_.FilterChain(std::move(statement->value));
    ExpectBlockEnd();
    statement->body = Statements({"endset"});
    in_.Next();
    ExpectBlockEnd();
    return statement;
  }

  StmtPtr Macro() {
    StmtPtr statement = Make(Stmt::Kind::kMacro);
    statement->text = in_.ExpectVariable();
    in_.ExpectOperator("(");
    while (!in_.TakeOperator(")")) {
      statement->targets.push_back(in_.ExpectVariable());
      statement->defaults.push_back(in_.TakeOperator("=") ? in_.Expression() : nullptr);
      if (!in_.Peek().Is(Token::Kind::kOperator, ")")) in_.ExpectOperator(",");
    }
    ExpectBlockEnd();
    const int loops = std::exchange(loops_, 0);
    statement->body = Statements({"endmacro"});
    loops_ = loops;
    in_.Next();
    if (in_.Peek().kind == Token::Kind::kName) in_.Next();  // {% endmacro name %}
    ExpectBlockEnd();
    return statement;
  }

  ExpressionParser in_;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Body Parse(std::string source) { return Parser(Lex(std::move(source))).Run(); }

}  // namespace shoal::text::jinja
