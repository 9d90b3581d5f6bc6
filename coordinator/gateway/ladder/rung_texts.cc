#include "coordinator/gateway/ladder/rung_texts.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <string_view>
#include <utility>

#include "coordinator/gateway/answer/stop_matcher.h"
#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/json/json_writer.h"
#include "coordinator/gateway/resume/request_digest.h"
#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

bool HasTokenIds(const ApiRequest& request) {
  for (const PromptInput& prompt : request.prompts) {
    if (std::holds_alternative<std::vector<int32_t>>(prompt)) return true;
  }
  return false;
}

AnswerPiece WholePiece(const CachedAnswer::Choice& choice) {
  AnswerPiece piece;
  piece.text = choice.text;
  piece.is_first = true;
  piece.finish = choice.finish;
  return piece;
}

}  // namespace

bool IsTextAlone(const ApiRequest& request) {
  return !request.echo && !request.return_token_ids && request.params.top_logprobs < 0;
}

std::optional<std::string> FindQuestion(const ApiRequest& request) {
  const bool asks_text = IsTextAlone(request) && !request.tools.any() &&
                         request.params.grammar == GrammarSource() && request.prompts.size() == 1;
  if (!asks_text) return std::nullopt;
  const PromptInput& prompt = request.prompts.front();
  if (const auto* text = std::get_if<std::string>(&prompt)) return *text;
  const auto* chat = std::get_if<Conversation>(&prompt);
  if (chat == nullptr) return std::nullopt;
  for (auto message = chat->rbegin(); message != chat->rend(); ++message) {
    if (message->role == "user") return message->content;
  }
  return std::nullopt;
}

std::optional<Digest> DigestForCache(const AnswerSetup& setup) {
  const ApiRequest& request = setup.request;
  const bool is_fixed = request.seeded || request.params.sampling.temperature == 0;
  if (!is_fixed || !IsTextAlone(request)) return std::nullopt;
  // What is kept of an answer is its text.
  if (std::ranges::any_of(setup.prompts, &PromptPlan::splits)) return std::nullopt;
  ApiRequest form;
  form.answers_per_prompt = request.answers_per_prompt;
  form.stop = request.stop;
  form.shows_stop = request.shows_stop;
  form.shows_special = request.shows_special;
  std::vector<PromptPlan> prompts = setup.prompts;
  for (PromptPlan& prompt : prompts) {
    GenerationParams& params = prompt.params;
    // As they were asked for: what is granted depends on the groups that are there.
    params.tokens_max = request.tokens_max.value_or(-1);
    params.sampling.min_tokens = request.params.sampling.min_tokens;
    if (!request.seeded) params.sampling.seed = 0;
    params.priority = 0;
  }
  const Digest digest = DigestRequest(form, prompts, setup.terms.tenant);
  return DigestText(Str(request.endpoint == Endpoint::kChat ? "chat\n" : "completions\n",
                        setup.model.name, "\n", std::string(digest.begin(), digest.end())));
}

CachedAnswer MakeTextAnswer(const AnswerSetup& setup, const std::string& text) {
  const ApiRequest& request = setup.request;
  const text::Tokenizer* const tokenizer = setup.format.tokenizer;
  CachedAnswer::Choice choice{text, FinishReason::kStop};
  if (!request.stop.empty()) {
    StopMatcher matcher(request.stop, request.shows_stop);
    choice.text = matcher.Push(text);
    choice.text += matcher.Finish();
  }
  int64_t tokens = 0;
  if (tokenizer != nullptr) {
    std::vector<int32_t> ids = tokenizer->Encode(choice.text, text::SpecialTokens::kPlainText);
    if (request.tokens_max && std::ssize(ids) > *request.tokens_max) {
      ids.resize(static_cast<size_t>(*request.tokens_max));
      choice = {tokenizer->Decode(ids, false), FinishReason::kLength};
    }
    tokens = std::ssize(ids);
  }
  CachedAnswer answer;
  answer.choices.assign(static_cast<size_t>(request.answers_per_prompt), choice);
  answer.usage.prompt_tokens = std::ssize(setup.prompts.front().ids);
  answer.usage.completion_tokens = tokens * request.answers_per_prompt;
  return answer;
}

size_t PromptBytes(const ApiRequest& request) {
  size_t bytes = request.params.grammar.text.size() + request.chat.tools.size() +
                 request.tools.functions.size() + request.chat.variables.size();
  for (const PromptInput& prompt : request.prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) bytes += text->size();
    const auto* chat = std::get_if<Conversation>(&prompt);
    if (chat == nullptr) continue;
    for (const ChatMessage& message : *chat) {
      bytes += 16 + message.content.size() + message.tool_calls.size() +
               message.reasoning.value_or("").size();
    }
  }
  return bytes;
}

AnswerSetup MakeRungSetup(AnswerSetup setup, const ModelRung& rung) {
  ApiRequest& request = setup.request;
  if (!rung.same_vocabulary && HasTokenIds(request)) {
    throw ApiError("prompt", "token ids mean something else to the model of that rung");
  }
  if (!rung.same_vocabulary && !request.params.sampling.logit_bias.empty()) {
    throw ApiError("logit_bias", "token ids mean something else to the model of that rung");
  }
  if (!rung.same_vocabulary && !request.params.stop_ids.empty()) {
    throw ApiError("stop_token_ids", "token ids mean something else to the model of that rung");
  }
  const uint64_t seed = setup.prompts.front().params.sampling.seed;
  setup.model = rung.model;
  request.model = rung.model.name;
  request.resumable = false;  // A cursor would be of another model than the one that is asked for.
  setup.cursors = nullptr;
  const PromptEncoder encoder(rung.text, setup.model, kHttpWords);
  setup.prompts = PlanGeneration(request, encoder, seed);
  setup.format.model = rung.model.name;
  setup.format.fingerprint = "fp_" + rung.model.numerics_id.substr(0, 16);
  setup.format.tokenizer = encoder.tokenizer();
  SetCallForm(setup);
  return setup;
}

std::string FormatTextBody(const AnswerFormat& format, const CachedAnswer& answer) {
  std::vector<std::deque<AnswerPiece>> choices;
  for (const CachedAnswer::Choice& choice : answer.choices) {
    choices.emplace_back().push_back(WholePiece(choice));
  }
  AnswerBody body(std::make_shared<const AnswerFormat>(format), std::move(choices), answer.usage,
                  std::nullopt);
  std::string whole;
  for (std::string text = body.Next(); !text.empty(); text = body.Next()) whole += text;
  return whole;
}

std::string FormatTextEvents(const AnswerFormat& format, const CachedAnswer& answer) {
  std::string events;
  for (size_t i = 0; i < answer.choices.size(); ++i) {
    events += FormatEvents(format, static_cast<int64_t>(i), WholePiece(answer.choices[i]));
  }
  if (format.include_usage) events += FormatUsageEvent(format, answer.usage, std::nullopt);
  return events + "data: [DONE]\n\n";
}

}  // namespace shoal::gateway
