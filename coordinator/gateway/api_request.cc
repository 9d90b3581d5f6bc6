#include "coordinator/gateway/api_request.h"

// One function per group of fields; the order of checks is the order of complaints.

#include <algorithm>
#include <charconv>

#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/json_reader.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kTokensMaxMax = int64_t{1} << 40;

[[noreturn]] void ThrowUnsupported(const std::string& field, std::string_view why) {
  throw ApiError(field, Str(field, " is not supported yet: ", why), "unsupported_parameter");
}

// Accepted and without effect on the answer here.
constexpr std::string_view kNoEffect[] = {
    "user",       "metadata",         "store",     "service_tier",       "parallel_tool_calls",
    "prediction", "prompt_cache_key", "verbosity", "add_special_tokens", "safety_identifier",
    "request_id",
};

void RefuseUnsupported(JsonReader& fields) {
  if (fields.Number("repeat_penalty", -1e9, 1e9).value_or(1) != 1) {
    ThrowUnsupported("repeat_penalty", "use repetition_penalty");
  }
  if (fields.Number("length_penalty", -1e9, 1e9).value_or(1) != 1) {
    ThrowUnsupported("length_penalty", "leave it at 1");
  }
  for (const char* name : {"tools", "functions", "bad_words", "allowed_token_ids"}) {
    const Json* value = fields.Find(name);
    if (value != nullptr && !value->empty()) ThrowUnsupported(name, "leave it out");
  }
  for (const char* name : {"tool_choice", "function_call"}) {
    const Json* value = fields.Find(name);
    if (value != nullptr && *value != "none" && *value != "auto") {
      ThrowUnsupported(name, "there are no tools");
    }
  }
  for (const char* name : {"audio", "web_search_options", "reasoning_effort", "guided_grammar",
                           "grammar", "json_schema", "chat_template", "chat_template_kwargs",
                           "documents", "truncate_prompt_tokens", "prompt_logprobs"}) {
    if (fields.Find(name) != nullptr) ThrowUnsupported(name, "leave it out");
  }
  if (fields.String("suffix").value_or("") != "") ThrowUnsupported("suffix", "leave it out");
  for (const char* name : {"use_beam_search", "continue_final_message"}) {
    if (fields.Bool(name).value_or(false)) ThrowUnsupported(name, "leave it false");
  }
  if (!fields.Bool("add_generation_prompt").value_or(true)) {
    ThrowUnsupported("add_generation_prompt", "leave it true");
  }
  const Json* modalities = fields.Find("modalities");
  if (modalities != nullptr && *modalities != Json::array({"text"})) {
    ThrowUnsupported("modalities", "only [\"text\"] is");
  }
}

// A number in (0, max].
double ReadPositive(JsonReader& fields, const char* name, double max, double absent) {
  const double value = fields.Number(name, 0, max).value_or(absent);
  if (value == 0) throw ApiError(name, Str(name, " must be above 0 and at most ", max, ", not 0"));
  return value;
}

// An object's key: a token id as a decimal number, in its one spelling.
int32_t ReadBiasToken(const std::string& key) {
  int32_t token = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
  if (error != std::errc() || token < 0 || std::to_string(token) != key) {
    throw ApiError("logit_bias",
                   Str("logit_bias has the key \"", key, "\": expected token ids like \"50256\""));
  }
  return token;
}

void ReadLogitBias(JsonReader& fields, SamplingParams& sampling) {
  const Json* const value = fields.Find("logit_bias");
  if (value == nullptr) return;
  JsonReader biases(*value, "logit_bias");
  if (static_cast<int64_t>(value->size()) > kLogitBiasesMax) {
    throw ApiError("logit_bias", Str("logit_bias must have at most ", kLogitBiasesMax,
                                     " tokens, not ", value->size()));
  }
  for (auto member = value->begin(); member != value->end(); ++member) {
    const int32_t token = ReadBiasToken(member.key());
    const auto bias = biases.Number(member.key(), -kLogitBiasMax, kLogitBiasMax);
    if (bias) sampling.logit_bias.push_back({token, static_cast<float>(*bias)});
  }
}

void ReadPenalties(JsonReader& fields, SamplingParams& sampling) {
  sampling.repetition_penalty =
      ReadPositive(fields, "repetition_penalty", kRepetitionPenaltyMax, 1);
  const auto count_penalty = [&](const char* name) {
    return fields.Number(name, -kCountPenaltyMax, kCountPenaltyMax).value_or(0);
  };
  sampling.frequency_penalty = count_penalty("frequency_penalty");
  sampling.presence_penalty = count_penalty("presence_penalty");
  ReadLogitBias(fields, sampling);
}

void ReadSampling(JsonReader& fields, ApiRequest& request) {
  SamplingParams& sampling = request.sampling;
  sampling.temperature = fields.Number("temperature", 0, 100).value_or(1);
  if (sampling.temperature != 0 && sampling.temperature < kTemperatureMin) {
    throw ApiError("temperature", Str("temperature must be 0 or at least ", kTemperatureMin,
                                      ", not ", sampling.temperature));
  }
  sampling.typical_p = ReadPositive(fields, "typical_p", 1, 1);
  sampling.top_p = ReadPositive(fields, "top_p", 1, 1);
  // -1 is another spelling of "all" among OpenAI-compatible servers.
  const int64_t top_k = fields.Int("top_k", -1, INT32_MAX).value_or(0);
  sampling.top_k = static_cast<int32_t>(top_k < 0 ? 0 : top_k);
  sampling.min_p = fields.Number("min_p", 0, 1).value_or(0);
  if (const auto seed = fields.Int("seed", INT64_MIN, INT64_MAX)) {
    request.seeded = true;
    sampling.seed = static_cast<uint64_t>(*seed);
  }
}

void ReadStops(JsonReader& fields, ApiRequest& request) {
  const auto add = [&](const Json& value, const std::string& path) {
    if (!value.is_string()) ThrowWrongType(path, "a string", value);
    auto text = value.get<std::string>();
    if (text.empty()) throw ApiError(path, path + " must not be empty");
    if (text.size() > kStopBytesMax) {
      throw ApiError(path, Str(path, " must have at most ", kStopBytesMax, " bytes"));
    }
    request.stop.push_back(std::move(text));
  };
  if (const Json* stop = fields.Find("stop"); stop != nullptr) {
    if (stop->is_array()) {
      if (stop->size() > kStopsMax) {
        throw ApiError("stop", Str("stop must have at most ", kStopsMax, " strings"));
      }
      for (size_t i = 0; i < stop->size(); ++i) add((*stop)[i], Str("stop[", i, "]"));
    } else if (stop->is_string()) {
      add(*stop, "stop");
    } else {
      ThrowWrongType("stop", "a string or an array of strings", *stop);
    }
  }
  if (const Json* ids = fields.Find("stop_token_ids"); ids != nullptr) {
    if (!ids->is_array()) ThrowWrongType("stop_token_ids", "an array of token ids", *ids);
    if (ids->size() > kStopsMax) {
      throw ApiError("stop_token_ids", Str("stop_token_ids must have at most ", kStopsMax, " ids"));
    }
    for (size_t i = 0; i < ids->size(); ++i) {
      request.stop_token_ids.push_back(ReadTokenId((*ids)[i], Str("stop_token_ids[", i, "]")));
    }
  }
}

void ReadLogprobs(JsonReader& fields, ApiRequest& request) {
  if (request.endpoint == Endpoint::kCompletions) {
    const auto count = fields.Int("logprobs", 0, kTopLogprobsMax);
    request.top_logprobs = static_cast<int32_t>(count.value_or(-1));
    return;
  }
  const bool wanted = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Int("top_logprobs", 0, kTopLogprobsMax);
  if (top && !wanted) throw ApiError("top_logprobs", "top_logprobs needs logprobs to be true");
  if (wanted) request.top_logprobs = static_cast<int32_t>(top.value_or(0));
}

void ReadLengths(JsonReader& fields, ApiRequest& request) {
  const int64_t least = request.endpoint == Endpoint::kCompletions ? 0 : 1;
  const auto tokens = fields.Int("max_tokens", least, kTokensMaxMax);
  const auto newer = fields.Int("max_completion_tokens", least, kTokensMaxMax);
  if (tokens && newer && *tokens != *newer) {
    throw ApiError("max_completion_tokens", "max_tokens and max_completion_tokens disagree");
  }
  request.tokens_max = newer ? newer : tokens;
  if (request.endpoint == Endpoint::kCompletions) {
    request.echo = fields.Bool("echo").value_or(false);
    if (!request.tokens_max) request.tokens_max = 16;
    if (*request.tokens_max == 0 && !request.echo) {
      throw ApiError(newer ? "max_completion_tokens" : "max_tokens",
                     "max_tokens may be 0 only with echo");
    }
  } else if (fields.Bool("echo").value_or(false)) {
    ThrowUnsupported("echo", "only /v1/completions has it");
  }
  request.sampling.min_tokens =
      fields.Int("min_tokens", 0, request.tokens_max.value_or(kTokensMaxMax)).value_or(0);
}

// When it is served, and beside whom: the fields of vLLM.
void ReadService(JsonReader& fields, ApiRequest& request) {
  request.priority =
      static_cast<int32_t>(fields.Int("priority", kPriorityMin, kPriorityMax).value_or(0));
  const auto salt = fields.String("cache_salt");
  if (!salt) return;
  if (salt->empty() || static_cast<int64_t>(salt->size()) > kCacheSaltBytesMax) {
    throw ApiError("cache_salt", Str("cache_salt must have 1 to ", kCacheSaltBytesMax,
                                     " bytes, not ", salt->size()));
  }
  request.cache_salt = *salt;
}

PromptInput ReadIds(const Json& value, const std::string& path) {
  std::vector<int32_t> ids;
  ids.reserve(value.size());
  for (size_t i = 0; i < value.size(); ++i) {
    ids.push_back(ReadTokenId(value[i], Str(path, "[", i, "]")));
  }
  if (ids.empty()) throw ApiError(path, path + " must have at least one token");
  return ids;
}

void ReadPrompts(JsonReader& fields, ApiRequest& request) {
  constexpr std::string_view kForms =
      "a string, an array of token ids, or an array of strings and such arrays";
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) throw ApiError("prompt", "prompt is missing", "missing_field");
  if (prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
  } else if (!prompt->is_array()) {
    ThrowWrongType("prompt", kForms, *prompt);
  } else if (prompt->empty()) {
    throw ApiError("prompt", "prompt must not be an empty array");
  } else if (prompt->front().is_number()) {
    request.prompts.push_back(ReadIds(*prompt, "prompt"));
  } else {
    if (prompt->size() > kChoicesMax) {
      throw ApiError("prompt", Str("prompt must have at most ", kChoicesMax, " elements, not ",
                                   prompt->size()));
    }
    for (size_t i = 0; i < prompt->size(); ++i) {
      const Json& element = (*prompt)[i];
      const std::string path = Str("prompt[", i, "]");
      if (element.is_string()) {
        request.prompts.emplace_back(element.get<std::string>());
      } else if (element.is_array()) {
        request.prompts.push_back(ReadIds(element, path));
      } else {
        ThrowWrongType(path, "a string or an array of token ids", element);
      }
    }
  }
}

std::string ReadContent(const Json& content, const std::string& path) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) ThrowWrongType(path, "a string or an array of text parts", content);
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    JsonReader part(content[i], Str(path, "[", i, "]"));
    const auto type = part.String("type");
    if (type.value_or("") != "text") {
      throw ApiError(part.Path("type"), Str(part.Path("type"), " must be \"text\""));
    }
    const auto piece = part.String("text");
    if (!piece)
      throw ApiError(part.Path("text"), part.Path("text") + " is missing", "missing_field");
    text += *piece;
  }
  return text;
}

void ReadMessages(JsonReader& fields, ApiRequest& request) {
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) throw ApiError("messages", "messages is missing", "missing_field");
  if (!messages->is_array()) ThrowWrongType("messages", "an array", *messages);
  if (messages->empty()) throw ApiError("messages", "messages must not be empty");
  for (size_t i = 0; i < messages->size(); ++i) {
    JsonReader message((*messages)[i], Str("messages[", i, "]"));
    ChatMessage& result = request.messages.emplace_back();
    const auto role = message.String("role");
    if (!role)
      throw ApiError(message.Path("role"), message.Path("role") + " is missing", "missing_field");
    constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};
    if (std::find(std::begin(kRoles), std::end(kRoles), *role) == std::end(kRoles)) {
      throw ApiError(message.Path("role"),
                     message.Path("role") + " must be system, developer, user, assistant or tool");
    }
    result.role = *role;
    if (const Json* calls = message.Find("tool_calls"); calls != nullptr && !calls->empty()) {
      ThrowUnsupported(message.Path("tool_calls"), "there are no tools");
    }
    const Json* content = message.Find("content");
    if (content == nullptr) {
      throw ApiError(message.Path("content"), message.Path("content") + " is missing",
                     "missing_field");
    }
    result.content = ReadContent(*content, message.Path("content"));
    result.name = message.String("name");
  }
}

}  // namespace

ApiRequest ParseApiRequest(Endpoint endpoint, const Json& body) {
  JsonReader fields(body, "");
  ApiRequest request;
  request.endpoint = endpoint;
  request.model = fields.String("model").value_or("");
  endpoint == Endpoint::kChat ? ReadMessages(fields, request) : ReadPrompts(fields, request);
  request.stream = fields.Bool("stream").value_or(false);
  if (const Json* options = fields.Find("stream_options"); options != nullptr) {
    JsonReader option_fields(*options, "stream_options");
    request.include_usage = option_fields.Bool("include_usage").value_or(false);
    if (!request.stream) throw ApiError("stream_options", "stream_options needs stream to be true");
  }
  ReadSampling(fields, request);
  ReadPenalties(fields, request.sampling);
  ReadLengths(fields, request);
  ReadStops(fields, request);
  ReadLogprobs(fields, request);
  request.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  request.grammar = ReadGrammar(fields);
  if (request.ignore_eos && request.grammar.source.kind != GrammarKind::kNone) {
    throw ApiError("ignore_eos", Str("ignore_eos and ", request.grammar.param,
                                     " exclude each other: the answer would go on after its end"));
  }
  request.return_token_ids = fields.Bool("return_token_ids").value_or(false);
  ReadService(fields, request);
  request.answers_per_prompt = static_cast<int32_t>(fields.Int("n", 1, kChoicesMax).value_or(1));
  const auto prompts = std::max<int64_t>(1, static_cast<int64_t>(request.prompts.size()));
  if (prompts * request.answers_per_prompt > kChoicesMax) {
    throw ApiError("n", Str("n times the number of prompts must be at most ", kChoicesMax));
  }
  const int64_t best_of =
      fields.Int("best_of", 1, kChoicesMax).value_or(request.answers_per_prompt);
  if (best_of != request.answers_per_prompt) ThrowUnsupported("best_of", "set it equal to n");
  RefuseUnsupported(fields);
  for (const std::string_view name : kNoEffect) fields.Find(name);
  request.ignored = fields.Unread();
  return request;
}

}  // namespace shoal::gateway
