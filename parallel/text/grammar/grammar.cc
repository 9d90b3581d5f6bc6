#include "parallel/text/grammar/grammar.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel/text/grammar/json_values.h"
#include "parallel/text/grammar/parts.h"
#include "parallel/text/grammar/regular/regex.h"
#include "parallel/text/grammar/schema/schema.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kJsonDepthMax = 128;
constexpr size_t kChoicesMax = 1000;

// Refuses deep nesting: nlohmann's parser itself needs no stack for it, but compiling recurses.
Json ParseJson(const std::string& text, const char* what) {
  const auto bounded = [&](int depth, Json::parse_event_t, const Json&) {
    if (depth > kJsonDepthMax) {
      Throw(ErrorCode::kInvalidArgument, what, ": nested deeper than ", kJsonDepthMax);
    }
    return true;
  };
  try {
    return Json::parse(text, bounded);
  } catch (const nlohmann::json::exception& error) {  // Refused, in this project's words.
    Throw(ErrorCode::kInvalidArgument, what, ": not JSON: ", error.what());
  }
}

NodeId CompileChoice(Expression& expression, const Json& choices) {
  if (!choices.is_array() || choices.empty() || choices.size() > kChoicesMax) {
    Throw(ErrorCode::kInvalidArgument, "choice must be an array of 1 to ", kChoicesMax, " strings");
  }
  std::vector<NodeId> options;
  for (const Json& choice : choices) {
    if (!choice.is_string() || choice.get<std::string>().empty()) {
      Throw(ErrorCode::kInvalidArgument, "each choice must be a string that is not empty");
    }
    options.push_back(expression.Literal(choice.get<std::string>()));
  }
  return expression.Choice(options);
}

NodeId Compile(Expression& expression, const GrammarSource& source) {
  switch (source.kind) {
    case GrammarKind::kJsonObject:
      return JsonValues(expression).AnyObject();
    case GrammarKind::kJsonSchema:
      return CompileSchema(expression, ParseJson(source.text, "JSON schema"));
    case GrammarKind::kRegex:
      return ParseRegex(expression, source.text, Spelling::kUtf8, RegexMatch::kWhole);
    case GrammarKind::kChoice:
      return CompileChoice(expression, ParseJson(source.text, "choice"));
    case GrammarKind::kParts:
      return CompileParts(expression, ParseJson(source.text, "parts"));
    case GrammarKind::kNone:
      break;
  }
  SHOAL_CHECK(false, "grammar kind ", static_cast<int>(source.kind));
  return Expression::kEmpty;
}

}  // namespace

std::shared_ptr<const Expression> CompileGrammar(const GrammarSource& source,
                                                 const ByteSet& expressible) {
  if (source.text.size() > kGrammarBytesMax) {
    Throw(ErrorCode::kInvalidArgument, "a grammar of ", source.text.size(), " bytes: at most ",
          kGrammarBytesMax, " are supported");
  }
  auto expression = std::make_shared<Expression>(expressible);
  const NodeId root = Compile(*expression, source);
  expression->Finish(root);
  return expression;
}

}  // namespace shoal::text::grammar
