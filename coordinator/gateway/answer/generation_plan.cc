#include "coordinator/gateway/answer/generation_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "coordinator/gateway/api/api_error.h"
#include "parallel/text/tools/tool_grammar.h"

namespace shoal::gateway {
namespace {

std::string EchoText(const PromptInput& prompt, const text::Tokenizer* tokenizer) {
  if (const auto* string = std::get_if<std::string>(&prompt)) return *string;
  const auto* ids = std::get_if<std::vector<int32_t>>(&prompt);
  return ids == nullptr || tokenizer == nullptr ? "" : tokenizer->Decode(*ids, false);
}

using Json = nlohmann::ordered_json;

// Parts of a grammar (parallel/text/grammar/parts.h) that say the same.
Json PartsOf(const GrammarSource& grammar) {
  switch (grammar.kind) {
    case GrammarKind::kNone:
      break;
    case GrammarKind::kJsonObject:
      return Json::array({Json{{"schema", Json{{"type", "object"}}}}});
    case GrammarKind::kJsonSchema:
      return Json::array({Json{{"schema", Json::parse(grammar.text)}}});
    case GrammarKind::kRegex:
      return Json::array({Json{{"regex", grammar.text}}});
    case GrammarKind::kChoice: {
      Json any = Json::array();
      for (const Json& choice : Json::parse(grammar.text)) any.push_back(Json::array({choice}));
      return Json::array({Json{{"any_of", std::move(any)}}});
    }
    case GrammarKind::kParts:
      return Json::parse(grammar.text);
  }
  return Json::array();
}

// What an answer must match that must be a call, or may be one beside what the request asks for
// otherwise.
GrammarSource CallGrammar(const ApiRequest& request, const PromptEncoder& encoder) {
  const AskedTools& tools = request.tools;
  const std::string& field = request.grammar_field;
  const GrammarSource& other = request.params.grammar;
  if (other.kind != GrammarKind::kNone) encoder.CheckGrammar(other, field);
  const Json functions = Json::parse(tools.functions);
  for (const Json& function : functions) {
    encoder.CheckGrammar({GrammarKind::kJsonSchema, function["parameters"].dump()},
                         function["field"]);
  }
  GrammarSource grammar =
      text::ToolCallGrammar(encoder.text().tool_format, functions, tools.parallel);
  if (other.kind != GrammarKind::kNone) {
    const Json any = Json::array({PartsOf(other), PartsOf(grammar)});
    grammar.text = Json::array({Json{{"any_of", any}}}).dump();
  }
  if (grammar.text.size() <= kGrammarBytesMax) return grammar;
  throw RequestError(RequestError::Kind::kInvalidGrammar, field,
                     Str(field, ": the schemas of the functions that may be called make ",
                         grammar.text.size(), " bytes of grammar, of which at most ",
                         kGrammarBytesMax, " are supported: offer fewer functions, or name one"));
}

// Whether the prompt ends with that text, but for white space.
bool EndsWith(const std::vector<int32_t>& ids, const std::string& marker,
              const text::Tokenizer& tokenizer) {
  constexpr size_t kTokens = 16;
  const size_t count = std::min(ids.size(), kTokens);
  std::string end = tokenizer.Decode({ids.end() - static_cast<ptrdiff_t>(count), ids.end()},
                                     /*skip_special=*/false);
  end.resize(end.find_last_not_of(" \n\r\t") + 1);
  return end.ends_with(marker);
}

text::AnswerSyntax SyntaxOf(const ApiRequest& request, const PromptEncoder& encoder,
                            const std::vector<int32_t>& ids) {
  text::AnswerSyntax syntax;
  if (request.endpoint != Endpoint::kChat || encoder.tokenizer() == nullptr) return syntax;
  const TextService& text = encoder.text();
  if (request.tools.any()) syntax.tools = text.tool_format;
  // An answer of a given structure has no room for thoughts.
  const bool is_free = request.params.grammar.kind == GrammarKind::kNone;
  if (!is_free || request.tools.forced || !request.splits_reasoning || text.reasoning_end.empty()) {
    return syntax;
  }
  syntax.reasoning_begin = text.reasoning_begin;
  syntax.reasoning_end = text.reasoning_end;
  syntax.begins_in_reasoning = EndsWith(ids, text.reasoning_begin, *encoder.tokenizer());
  return syntax;
}

}  // namespace

std::vector<PromptPlan> PlanGeneration(const ApiRequest& request, const PromptEncoder& encoder,
                                       uint64_t seed) {
  PromptRequest asked{.prompts = request.prompts,
                      .chat = request.chat,
                      .field = request.endpoint == Endpoint::kChat ? "messages" : "prompt",
                      .adds_bos = request.adds_bos,
                      .stops_at_eos = !request.ignore_eos,
                      .params = request.params,
                      .tokens_max = request.tokens_max,
                      .may_only_echo = request.echo,
                      .grammar_field = request.grammar_field};
  asked.params.prompt_logprobs = request.echo && request.params.top_logprobs >= 0;
  if (!request.seeded) asked.params.sampling.seed = seed;
  std::vector<PromptPlan> plans;
  try {
    if (!request.stop.empty()) encoder.NeedTokenizer("stop");
    const bool is_free = request.params.grammar.kind == GrammarKind::kNone && !request.tools.forced;
    if (request.tools.any() && !is_free) asked.params.grammar = CallGrammar(request, encoder);
    for (EncodedRequest& one : encoder.Encode(asked)) {
      text::AnswerSyntax syntax = SyntaxOf(request, encoder, one.ids);
      plans.push_back({std::move(one.ids),
                       EchoText(request.prompts[plans.size()], encoder.tokenizer()), one.bos_added,
                       std::move(one.params), std::move(syntax)});
    }
  } catch (const RequestError& error) {  // Becomes what HTTP answers.
    throw FromRequestError(error);
  }
  return plans;
}

}  // namespace shoal::gateway
