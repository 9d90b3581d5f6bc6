#include "coordinator/gateway/answer/generation_plan.h"

#include <utility>

#include "coordinator/gateway/api/api_error.h"

namespace shoal::gateway {
namespace {

std::string EchoText(const PromptInput& prompt, const text::Tokenizer* tokenizer) {
  if (const auto* string = std::get_if<std::string>(&prompt)) return *string;
  const auto* ids = std::get_if<std::vector<int32_t>>(&prompt);
  return ids == nullptr || tokenizer == nullptr ? "" : tokenizer->Decode(*ids, false);
}

}  // namespace

std::vector<PromptPlan> PlanGeneration(const ApiRequest& request, const PromptEncoder& encoder,
                                       uint64_t seed) {
  PromptRequest asked{.prompts = request.prompts,
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
    for (EncodedRequest& one : encoder.Encode(asked)) {
      plans.push_back({std::move(one.ids),
                       EchoText(request.prompts[plans.size()], encoder.tokenizer()), one.bos_added,
                       std::move(one.params)});
    }
  } catch (const RequestError& error) {  // Becomes what HTTP answers.
    throw FromRequestError(error);
  }
  return plans;
}

}  // namespace shoal::gateway
