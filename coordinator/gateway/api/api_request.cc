#include "coordinator/gateway/api/api_request.h"

// One function per group of fields; the order of checks is the order of complaints.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/api/fields/ignored_fields.h"
#include "coordinator/gateway/api/fields/messages.h"
#include "coordinator/gateway/api/fields/response_format.h"
#include "coordinator/gateway/api/fields/sampling_fields.h"
#include "coordinator/gateway/json/json_reader.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kTokensMaxMax = int64_t{1} << 40;

[[noreturn]] void ThrowUnsupported(const std::string& field, std::string_view why) {
  throw ApiError(field, Str(field, " is not supported: ", why), "unsupported_parameter");
}

// Fields of the body that the table does not know.
void NoteUnknown(const Json& body, ApiRequest& request) {
  for (auto field = body.begin(); field != body.end(); ++field) {
    if (FindParameter(request.endpoint, field.key()) != nullptr) continue;
    NoteIgnored(field.key(), request.ignored);
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
      request.params.stop_ids.push_back(ReadTokenId((*ids)[i], Str("stop_token_ids[", i, "]")));
    }
  }
}

void ReadLogprobs(JsonReader& fields, ApiRequest& request) {
  if (request.endpoint == Endpoint::kCompletions) {
    const auto count = fields.Int("logprobs", 0, kTopLogprobsMax);
    request.params.top_logprobs = static_cast<int32_t>(count.value_or(-1));
    return;
  }
  const bool wanted = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Int("top_logprobs", 0, kTopLogprobsMax);
  if (top.value_or(0) > 0 && !wanted) {
    throw ApiError("top_logprobs", "top_logprobs needs logprobs to be true");
  }
  if (wanted) request.params.top_logprobs = static_cast<int32_t>(top.value_or(0));
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
    request.adds_bos = fields.Bool("add_special_tokens").value_or(true);
    if (!request.tokens_max) request.tokens_max = 16;
    if (*request.tokens_max == 0 && !request.echo) {
      throw ApiError(newer ? "max_completion_tokens" : "max_tokens",
                     "max_tokens may be 0 only with echo");
    }
  }
  request.params.sampling.min_tokens =
      fields.Int("min_tokens", 0, request.tokens_max.value_or(kTokensMaxMax)).value_or(0);
}

// When it is served, and beside whom: the fields of vLLM.
void ReadService(JsonReader& fields, ApiRequest& request) {
  request.params.priority =
      static_cast<int32_t>(fields.Int("priority", kPriorityMin, kPriorityMax).value_or(0));
  const auto salt = fields.String("cache_salt");
  if (!salt) return;
  if (salt->empty() || static_cast<int64_t>(salt->size()) > kCacheSaltBytesMax) {
    throw ApiError("cache_salt", Str("cache_salt must have 1 to ", kCacheSaltBytesMax,
                                     " bytes, not ", salt->size()));
  }
  request.params.cache_salt = *salt;
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
  if (prompt == nullptr || (prompt->is_array() && prompt->empty())) {
    request.prompts.emplace_back("");
  } else if (prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
  } else if (!prompt->is_array()) {
    ThrowWrongType("prompt", kForms, *prompt);
  } else if (prompt->front().is_number()) {
    request.prompts.push_back(ReadIds(*prompt, "prompt"));
  } else {
    if (prompt->size() > kPromptsMax) {
      throw ApiError("prompt", Str("prompt must have at most ", kPromptsMax, " elements, not ",
                                   prompt->size()));
    }
    for (size_t i = 0; i < prompt->size(); ++i) {
      const Json& element = (*prompt)[i];
      const std::string path = Str("prompt[", i, "]");
      if (element.is_string()) {
        request.prompts.emplace_back(element.get<std::string>());
      } else if (element.is_array() && element.empty()) {
        request.prompts.emplace_back("");
      } else if (element.is_array()) {
        request.prompts.push_back(ReadIds(element, path));
      } else {
        ThrowWrongType(path, "a string or an array of token ids", element);
      }
    }
  }
}

void ReadStream(JsonReader& fields, ApiRequest& request) {
  request.stream = fields.Bool("stream").value_or(false);
  const Json* value = fields.Find("stream_options");
  if (value == nullptr) return;
  JsonReader options(*value, "stream_options");
  if (!request.stream) throw ApiError("stream_options", "stream_options needs stream to be true");
  request.include_usage = options.Bool("include_usage").value_or(false);
  request.continuous_usage = options.Bool("continuous_usage_stats").value_or(false);
  request.resumable = options.Bool("resumable").value_or(false);
  options.Bool("include_obfuscation");  // Padding, of which there is none.
  NoteUnread(options, "stream_options.", request.ignored);
}

void ReadCounts(JsonReader& fields, ApiRequest& request) {
  request.answers_per_prompt = static_cast<int32_t>(fields.Int("n", 1, kAnswersMax).value_or(1));
  const auto prompts = static_cast<int64_t>(request.prompts.size());
  if (prompts * request.answers_per_prompt > kSequencesMax) {
    throw ApiError("n", Str("n times the number of prompts must be at most ", kSequencesMax));
  }
  const int64_t best_of =
      fields.Int("best_of", 1, kAnswersMax).value_or(request.answers_per_prompt);
  if (best_of != request.answers_per_prompt) ThrowUnsupported("best_of", "set it equal to n");
}

void ReadChat(JsonReader& fields, ApiRequest& request) {
  Conversation messages = ReadMessages(fields, request.chat, request.ignored);
  ReadChatForm(fields, messages, request.chat);
  request.prompts.emplace_back(std::move(messages));
  request.tools = ReadTools(fields, request.ignored);
  request.chat.tools = request.tools.shown;
  request.splits_reasoning = fields.Bool("separate_reasoning").value_or(true);
  request.shows_reasoning = fields.Bool("include_reasoning").value_or(true);
}

// What the answer must look like: at most one field says it.
void ReadStructure(JsonReader& fields, ApiRequest& request) {
  AskedGrammar grammar = ReadGrammar(fields);
  request.params.grammar = std::move(grammar.source);
  request.grammar_field = std::move(grammar.param);
  const bool has_grammar = request.params.grammar.kind != GrammarKind::kNone;
  if (request.tools.forced) {
    const std::string forced_by = request.tools.legacy ? "function_call" : "tool_choice";
    if (has_grammar) {
      throw ApiError(forced_by, Str(forced_by, " and ", request.grammar_field,
                                    " exclude each other: the answer is a call"));
    }
    request.grammar_field = forced_by;
  }
  if (request.ignore_eos && (has_grammar || request.tools.forced)) {
    throw ApiError("ignore_eos", Str("ignore_eos and ", request.grammar_field,
                                     " exclude each other: the answer would go on after its end"));
  }
}

}  // namespace

ApiRequest ParseApiRequest(Endpoint endpoint, const Json& body) {
  JsonReader fields(body, "");
  ApiRequest request;
  request.endpoint = endpoint;
  request.model = fields.String("model").value_or("");
  endpoint == Endpoint::kChat ? ReadChat(fields, request) : ReadPrompts(fields, request);
  ReadStream(fields, request);
  ReadSampling(fields, request.params.sampling);
  request.seeded = fields.Find("seed") != nullptr;
  ReadLengths(fields, request);
  ReadStops(fields, request);
  ReadLogprobs(fields, request);
  request.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  ReadStructure(fields, request);
  request.return_token_ids = fields.Bool("return_token_ids").value_or(false);
  request.shows_stop = fields.Bool("include_stop_str_in_output").value_or(false);
  request.shows_special = !fields.Bool("skip_special_tokens").value_or(true);
  ReadService(fields, request);
  ReadCounts(fields, request);
  RefuseUnsupported(endpoint, body);
  NoteUnknown(body, request);
  return request;
}

}  // namespace shoal::gateway
