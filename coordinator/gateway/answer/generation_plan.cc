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

// The grammar of an answer that must be a call of one of the functions.
GrammarSource ForcedCall(const AskedTools& tools, const PromptEncoder& encoder) {
  const auto functions = nlohmann::ordered_json::parse(tools.forced);
  for (const auto& function : functions) {
    encoder.CheckSchema(function["parameters"], function["field"]);
  }
  GrammarSource grammar =
      text::ToolCallGrammar(encoder.text().tool_format, functions, tools.parallel);
  if (grammar.text.size() <= kGrammarBytesMax) return grammar;
  throw RequestError(RequestError::Kind::kInvalidGrammar, tools.forced_by,
                     Str(tools.forced_by, ": the schemas of the functions that may be called make ",
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
  if (!is_free || !request.tools.forced.empty() || !request.splits_reasoning ||
      text.reasoning_end.empty()) {
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
    if (!request.tools.forced.empty()) asked.params.grammar = ForcedCall(request.tools, encoder);
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
