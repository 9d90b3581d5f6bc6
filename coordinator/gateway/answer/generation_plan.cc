#include "coordinator/gateway/answer/generation_plan.h"

// Tokenizing, and how long the answer may become.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/json/json_writer.h"

namespace shoal::gateway {
namespace {

const text::Tokenizer& NeedTokenizer(const TextService& text, const std::string& param) {
  if (text.tokenizer == nullptr) {
    throw ApiError(param,
                   Str(text.tokenizer_refusal.empty() ? "the model has no tokenizer"
                                                      : "the model's tokenizer cannot be used (" +
                                                            text.tokenizer_refusal + ")",
                       ": send a prompt of token ids and no stop strings"),
                   "no_tokenizer");
  }
  return *text.tokenizer;
}

// What an empty prompt stands for, also where the model's rule is to put no BOS before a text.
std::vector<int32_t> OnlyBos(const text::Tokenizer& tokenizer, const std::string& path) {
  std::vector<int32_t> ids =
      tokenizer.Encode(tokenizer.bos_text(), text::SpecialTokens::kRecognized);
  if (ids.size() == 1) return ids;
  throw ApiError(path, Str(path,
                           " must have at least one token: the model has no BOS token, "
                           "which an empty prompt stands for"));
}

void EncodePrompt(const PromptInput& input, bool adds_bos, const TextService& text,
                  const std::string& path, PromptPlan& plan) {
  if (const auto* string = std::get_if<std::string>(&input)) {
    const text::Tokenizer& tokenizer = NeedTokenizer(text, path);
    plan.text = *string;
    try {
      plan.ids = tokenizer.Encode(*string, text::SpecialTokens::kRecognized);
    } catch (const Error& error) {
      // Text beyond the tokenizer's limits is the caller's to mend.
      if (error.code() != ErrorCode::kInvalidArgument) throw;
      throw ApiError(path, Str(path, " cannot be tokenized: ", error.what()));
    }
    if (!adds_bos) {
      if (plan.ids.empty()) throw ApiError(path, path + " must have at least one token");
      return;
    }
    if (const auto bos = tokenizer.bos_to_add()) {
      plan.bos_added = true;
      plan.ids.insert(plan.ids.begin(), *bos);
    } else if (plan.ids.empty()) {
      plan.bos_added = true;
      plan.ids = OnlyBos(tokenizer, path);
    }
    return;
  }
  plan.ids = std::get<std::vector<int32_t>>(input);
  if (text.tokenizer != nullptr) plan.text = text.tokenizer->Decode(plan.ids, false);
}

void EncodeMessages(const ApiRequest& request, const TextService& text, PromptPlan& plan) {
  NeedTokenizer(text, "messages");
  if (!text.encode_chat) {
    throw ApiError("messages",
                   Str(text.chat_refusal.empty()
                           ? "the model has no chat template"
                           : "the model's chat template cannot be used (" + text.chat_refusal + ")",
                       ": use /v1/completions"),
                   "no_chat_template");
  }
  auto messages = nlohmann::ordered_json::array();
  for (const ChatMessage& message : request.messages) {
    nlohmann::ordered_json entry = {{"role", message.role}, {"content", message.content}};
    if (message.name) entry["name"] = *message.name;
    messages.push_back(std::move(entry));
  }
  try {
    plan.ids = text.encode_chat(messages);
  } catch (const Error& error) {
    // The template's own raise_exception is how it refuses a conversation: the caller's to mend.
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    throw ApiError("messages", Str("the model's chat template refuses this: ", error.what()));
  }
  if (plan.ids.empty()) throw ApiError("messages", "the conversation has no tokens");
}

// A tokenizer may have tokens that the model was never given a row for.
void CheckPromptTokens(const PromptPlan& plan, bool from_text, int32_t vocab_size,
                       const TextService& text, const std::string& path) {
  for (size_t i = 0; i < plan.ids.size(); ++i) {
    const int32_t id = plan.ids[i];
    if (id < vocab_size) continue;
    if (!from_text) {
      throw ApiError(
          Str(path, "[", i, "]"),
          Str(path, "[", i, "] is ", id, ", but the vocabulary has ", vocab_size, " tokens"));
    }
    const std::string token = ReplaceIllFormed(text.tokenizer->TokenBytes(id, false));
    throw ApiError(path, Str(path, " has the token ", nlohmann::json(token).dump(), ", which the ",
                             "tokenizer knows as ", id, ", but the model has only ", vocab_size,
                             " tokens: leave it out"));
  }
}

void CheckStopTokens(const std::vector<int32_t>& ids, int32_t vocab_size) {
  for (const int32_t id : ids) {
    if (id < vocab_size) continue;
    throw ApiError("stop_token_ids", Str("stop_token_ids names token ", id,
                                         ", but the vocabulary has ", vocab_size, " tokens"));
  }
}

void CheckBiasTokens(const SamplingParams& sampling, int32_t vocab_size) {
  for (const LogitBias& entry : sampling.logit_bias) {
    if (entry.token < vocab_size) continue;
    throw ApiError("logit_bias", Str("logit_bias names token ", entry.token,
                                     ", but the vocabulary has ", vocab_size, " tokens"));
  }
}

// How many tokens may be generated after `plan.ids`.
int64_t PlanLength(const ApiRequest& request, const PromptPlan& plan,
                   const core::ServedModel& model, const std::string& path) {
  const auto prompt_tokens = static_cast<int64_t>(plan.ids.size());
  const int64_t least = request.tokens_max.value_or(1) == 0 ? 0 : 1;
  if (prompt_tokens + least > model.context_tokens) {
    ApiError error(
        path,
        // Clients know this by its words.
        Str("This model's maximum context length is ", model.context_tokens, " tokens",
            least > 0 ? ", at least one of them for the answer" : "", ". The prompt has ",
            prompt_tokens, " tokens: the prompt is too long, shorten it"),
        "context_length_exceeded");
    error.prompt_tokens = prompt_tokens;
    error.max_context = model.context_tokens;
    throw error;
  }
  const int64_t context_room = model.context_tokens - prompt_tokens;
  const int64_t cache_room =
      model.kv_cache_tokens > 0 ? model.kv_cache_tokens - prompt_tokens : context_room;
  const int64_t wanted =
      std::min(request.tokens_max.value_or(std::max<int64_t>(1, cache_room)), context_room);
  if (wanted > cache_room) {
    throw ApiError(path,
                   Str("the prompt has ", prompt_tokens, " tokens and may grow by ", wanted,
                       ", but the KV cache holds ", model.kv_cache_tokens,
                       ": shorten the prompt, lower max_tokens, or raise kv_cache_tokens"),
                   "kv_cache_exceeded");
  }
  return wanted;
}

}  // namespace

int32_t VocabSize(const TextService& text, const core::ServedModel& model) {
  return model.vocab_size == 0 ? text.vocab_size : std::min(text.vocab_size, model.vocab_size);
}

std::vector<PromptPlan> PlanGeneration(const ApiRequest& request, const TextService& text,
                                       const core::ServedModel& model, uint64_t seed) {
  if (!request.stop.empty()) NeedTokenizer(text, "stop");
  const int32_t vocab_size = VocabSize(text, model);
  CheckGrammar(request.grammar, text);
  std::vector<PromptPlan> plans;
  const size_t count = request.endpoint == Endpoint::kChat ? 1 : request.prompts.size();
  for (size_t i = 0; i < count; ++i) {
    PromptPlan& plan = plans.emplace_back();
    std::string path = "messages";
    if (request.endpoint == Endpoint::kChat) {
      EncodeMessages(request, text, plan);
    } else {
      path = count > 1 ? Str("prompt[", i, "]") : "prompt";
      EncodePrompt(request.prompts[i], request.adds_bos, text, path, plan);
    }
    const bool from_text = request.endpoint == Endpoint::kChat ||
                           std::holds_alternative<std::string>(request.prompts[i]);
    CheckPromptTokens(plan, from_text, vocab_size, text, path);
    plan.params.sampling = request.sampling;
    if (!request.seeded) plan.params.sampling.seed = seed;
    CheckBiasTokens(request.sampling, vocab_size);
    CheckStopTokens(request.stop_token_ids, vocab_size);
    plan.params.tokens_max = PlanLength(request, plan, model, path);
    // The context may have less room than was asked for; then that is the answer's whole length.
    plan.params.sampling.min_tokens = std::min(request.sampling.min_tokens, plan.params.tokens_max);
    plan.params.stop_ids = request.stop_token_ids;
    if (!request.ignore_eos) {
      plan.params.stop_ids.insert(plan.params.stop_ids.end(), text.eos_ids.begin(),
                                  text.eos_ids.end());
    }
    plan.params.grammar = request.grammar.source;
    plan.params.top_logprobs = request.top_logprobs;
    plan.params.priority = request.priority;
    plan.params.cache_salt = request.cache_salt;
    plan.params.prompt_logprobs = request.echo && request.top_logprobs >= 0;
  }
  return plans;
}

}  // namespace shoal::gateway
