#include "coordinator/gateway/text/prompt_encoder.h"

// Checks, tokenizing, and how long the answer may become.

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/json/json_writer.h"
#include "coordinator/gateway/text/chat_variables.h"
#include "coordinator/gateway/text/other_text.h"
#include "parallel/text/grammar/grammar.h"
#include "transport/base/utf8.h"
#include "transport/rpc/connection.h"

namespace shoal::gateway {
namespace {

using Kind = RequestError::Kind;

// Runs `work`: what it finds wrong with its input is the caller's to mend, in that field.
template <typename Work>
auto Blame(Kind kind, const std::string& field, const std::string& prefix, Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    throw RequestError(kind, field, prefix + error.what());
  }
}

// What an empty prompt stands for, also where the model's rule is to put no BOS before a text.
std::vector<int32_t> OnlyBos(const text::Tokenizer& tokenizer, const std::string& field) {
  std::vector<int32_t> ids =
      tokenizer.Encode(tokenizer.bos_text(), text::SpecialTokens::kRecognized);
  if (ids.size() == 1) return ids;
  throw RequestError(Kind::kInvalid, field,
                     Str(field,
                         " must have at least one token: the model has no BOS token, which an "
                         "empty prompt stands for"));
}

}  // namespace

int32_t VocabSize(const TextService& text, const ServedModel& model) {
  return model.vocab_size == 0 ? text.vocab_size : std::min(text.vocab_size, model.vocab_size);
}

const ServedModel& NeedModel(const std::vector<ServedModel>& models, const std::string& name) {
  const ServedModel* const model = core::FindModel(models, name);
  if (model != nullptr) return *model;
  throw RequestError(Kind::kUnknownModel, "model",
                     Str("the model ", nlohmann::json(ReplaceIllFormed(name)).dump(),
                         " is not served here; served: ", core::JoinNames(models)));
}

PromptEncoder::PromptEncoder(const TextService& own, const ServedModel& model,
                             const ApiWords& words)
    : other_(OtherText(model, own)),
      text_(other_ ? *other_ : own),
      model_(model),
      words_(words),
      vocab_size_(VocabSize(text_, model)) {}

std::vector<EncodedRequest> PromptEncoder::Encode(const PromptRequest& request) const {
  const GenerationParams params = CheckShared(request);
  std::vector<EncodedRequest> all;
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const std::string field =
        request.prompts.size() > 1 ? Str(request.field, "[", i, "]") : request.field;
    EncodedRequest one = EncodePrompt(request.prompts[i], field, request);
    one.params = params;
    one.params.tokens_max =
        GrantLength(static_cast<int64_t>(one.ids.size()), request.tokens_max, field);
    // The context may have less room than was asked for; then that is the answer's whole length.
    int64_t& min_tokens = one.params.sampling.min_tokens;
    min_tokens = std::min(min_tokens, one.params.tokens_max);
    all.push_back(std::move(one));
  }
  return all;
}

const text::Tokenizer& PromptEncoder::NeedTokenizer(const std::string& field) const {
  if (text_.tokenizer != nullptr) return *text_.tokenizer;
  const std::string& why = text_.tokenizer_refusal;
  throw RequestError(Kind::kNoTokenizer, field,
                     Str(why.empty() ? "the model has no tokenizer"
                                     : Str("the model's tokenizer cannot be used (", why, ")"),
                         ": ", words_.instead_of_text));
}

GenerationParams PromptEncoder::CheckShared(const PromptRequest& request) const {
  GenerationParams params = request.params;
  params.tokens_max = request.tokens_max.value_or(std::numeric_limits<int64_t>::max());
  if (request.may_only_echo) params.tokens_max = std::max<int64_t>(1, params.tokens_max);
  Blame(Kind::kInvalid, "", "", [&] { CheckParams(params); });
  Blame(Kind::kInvalid, "logit_bias", "", [&] { CheckTokenIds(params, vocab_size_); });
  for (const int32_t id : params.stop_ids) {
    if (id >= 0 && id < vocab_size_) continue;
    const std::string field(words_.stop_ids);
    throw RequestError(
        Kind::kInvalid, field,
        Str(field, " names token ", id, ": expected an id from 0 to ", vocab_size_ - 1));
  }
  if (request.stops_at_eos) {
    for (const int32_t id : text_.eos_ids) {
      if (std::ranges::find(params.stop_ids, id) == params.stop_ids.end()) {
        params.stop_ids.push_back(id);
      }
    }
    if (static_cast<int64_t>(params.stop_ids.size()) > kStopIdsMax) {
      const std::string field(words_.stop_ids);
      throw RequestError(Kind::kInvalid, field,
                         Str(field, " and the model's end-of-sequence ids are ",
                             params.stop_ids.size(), ": expected at most ", kStopIdsMax));
    }
  }
  if (params.grammar.kind == GrammarKind::kNone) return params;
  CheckGrammar(params.grammar, request.grammar_field);
  for (const int32_t id : text_.eos_ids) {
    if (std::ranges::find(params.stop_ids, id) != params.stop_ids.end()) continue;
    throw RequestError(Kind::kInvalid, request.grammar_field,
                       Str(request.grammar_field, " needs the model's end-of-sequence token ", id,
                           " among ", words_.stop_ids, ": the answer would go on after its end"));
  }
  return params;
}

void PromptEncoder::CheckGrammar(const GrammarSource& grammar, const std::string& field) const {
  if (text_.tokenizer == nullptr || text_.eos_ids.empty()) {
    throw RequestError(Kind::kNoTokenizer, field,
                       field + " needs a model with a tokenizer and an end-of-sequence token");
  }
  Blame(Kind::kInvalidGrammar, field, field + ": ",
        [&] { text::grammar::CompileGrammar(grammar, text_.grammar_bytes); });
}

EncodedRequest PromptEncoder::EncodePrompt(const PromptInput& prompt, const std::string& field,
                                           const PromptRequest& request) const {
  EncodedRequest one;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    one = EncodeText(*text, field, request.adds_bos);
  } else if (const auto* chat = std::get_if<Conversation>(&prompt)) {
    one.ids = EncodeChat(*chat, request.chat, field);
  } else {
    one.ids = std::get<std::vector<int32_t>>(prompt);
  }
  CheckIds(one.ids, !std::holds_alternative<std::vector<int32_t>>(prompt), field);
  return one;
}

EncodedRequest PromptEncoder::EncodeText(const std::string& prompt, const std::string& field,
                                         bool adds_bos) const {
  const text::Tokenizer& tokenizer = NeedTokenizer(field);
  CheckUtf8(prompt, field);
  EncodedRequest one;
  one.ids = Blame(Kind::kInvalid, field, field + " cannot be tokenized: ", [&] {
    return tokenizer.Encode(prompt, text::SpecialTokens::kRecognized);
  });
  if (!adds_bos) return one;
  if (const auto bos = tokenizer.bos_to_add()) {
    one.bos_added = true;
    one.ids.insert(one.ids.begin(), *bos);
  } else if (one.ids.empty()) {
    one.bos_added = true;
    one.ids = OnlyBos(tokenizer, field);
  }
  return one;
}

std::vector<int32_t> PromptEncoder::EncodeChat(const Conversation& chat, const ChatForm& form,
                                               const std::string& field) const {
  NeedTokenizer(field);
  if (!text_.encode_chat) {
    const std::string& why = text_.chat_refusal;
    throw RequestError(
        Kind::kNoChatTemplate, field,
        Str(why.empty() ? "the model has no chat template"
                        : Str("the model's chat template cannot be used (", why, ")"),
            ": ", words_.instead_of_chat));
  }
  nlohmann::ordered_json variables = ChatVariables(chat, form, field);
  // The template's own raise_exception is how it refuses a conversation.
  std::vector<int32_t> ids =
      Blame(Kind::kInvalid, field, "the model's chat template refuses this: ", [&] {
        return text_.encode_chat(std::move(variables));
      });
  if (ids.empty()) throw RequestError(Kind::kInvalid, field, "the conversation has no tokens");
  return ids;
}

void PromptEncoder::CheckIds(const std::vector<int32_t>& ids, bool from_text,
                             const std::string& field) const {
  if (ids.empty()) {
    throw RequestError(Kind::kInvalid, field, field + " must have at least one token");
  }
  if (ids.size() > rpc::kPromptTokensMax) {
    throw RequestError(
        Kind::kInvalid, field,
        Str(field, " has ", ids.size(), " tokens: expected at most ", rpc::kPromptTokensMax));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const int32_t id = ids[i];
    if (id >= 0 && id < vocab_size_) continue;
    if (!from_text) {
      const std::string path = Str(field, "[", i, "]");
      throw RequestError(
          Kind::kInvalid, path,
          Str(path, " is ", id, ": expected a token id from 0 to ", vocab_size_ - 1));
    }
    // A tokenizer may have tokens that the model was never given a row for.
    const std::string token = ReplaceIllFormed(text_.tokenizer->TokenBytes(id, false));
    throw RequestError(
        Kind::kInvalid, field,
        Str(field, " has the token ", nlohmann::json(token).dump(), ", which the tokenizer knows ",
            "as ", id, ", but the model has only ", vocab_size_, " tokens: leave it out"));
  }
}

int64_t PromptEncoder::GrantLength(int64_t prompt_tokens, std::optional<int64_t> tokens_max,
                                   const std::string& field) const {
  const int64_t context_tokens = model_.context_tokens;
  if (context_tokens <= 0) return tokens_max.value_or(1);
  const int64_t least = tokens_max == 0 ? 0 : 1;
  if (prompt_tokens + least > context_tokens) {
    RequestError error(
        Kind::kContextExceeded, field,
        // Clients know this by its words.
        Str("This model's maximum context length is ", context_tokens, " tokens",
            least > 0 ? ", at least one of them for the answer" : "", ". The prompt has ",
            prompt_tokens, " tokens: the prompt is too long, shorten it"));
    error.prompt_tokens = prompt_tokens;
    error.context_tokens = context_tokens;
    throw error;
  }
  const int64_t context_room = context_tokens - prompt_tokens;
  const int64_t cache_room =
      model_.kv_cache_tokens > 0 ? model_.kv_cache_tokens - prompt_tokens : context_room;
  const int64_t wanted =
      std::min(tokens_max.value_or(std::max<int64_t>(1, cache_room)), context_room);
  if (wanted > cache_room) {
    throw RequestError(
        Kind::kCacheExceeded, field,
        Str("the prompt has ", prompt_tokens, " tokens and may grow by ", wanted,
            ", but the KV cache holds ", model_.kv_cache_tokens, ": shorten the prompt, lower ",
            words_.tokens_max, ", or raise kv_cache_tokens"));
  }
  return wanted;
}

}  // namespace shoal::gateway
