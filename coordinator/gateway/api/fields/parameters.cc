#include "coordinator/gateway/api/fields/parameters.h"

// The table. A field that an engine out there reads and that would change the answer is a row here,
// so that it is never dropped as unknown.

#include <nlohmann/json.hpp>
#include <vector>

#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/api/fields/sampling_fields.h"
#include "coordinator/gateway/api/request_headers.h"
#include "coordinator/gateway/json/json_writer.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;

constexpr Parameter Honoured(std::string_view name, std::string_view note) {
  return {name, ParameterClass::kHonoured, true, true, note};
}

constexpr Parameter NoEffect(std::string_view name, std::string_view note) {
  return {name, ParameterClass::kNoEffect, true, true, note};
}

constexpr Parameter Unsupported(std::string_view name, std::string_view neutral,
                                std::string_view note = "leave it out") {
  return {name, ParameterClass::kUnsupported, true, true, note, neutral};
}

constexpr Parameter Completions(Parameter parameter) {
  parameter.chat = false;
  return parameter;
}

constexpr Parameter Chat(Parameter parameter) {
  parameter.completions = false;
  return parameter;
}

constexpr std::string_view kOnlyChat = "only /v1/chat/completions has it";

constexpr Parameter kRequestParameters[] = {
    // The request and its length.
    Honoured("model", "a served name; absent: whatever is served"),
    Completions(Honoured("prompt",
                         "a string, an array of token ids, or an array of up to 64 of these; "
                         "absent or empty: the BOS token alone")),
    Chat(Honoured("messages", "an array of messages with text")),
    Honoured("stream", "a boolean"),
    Honoured("stream_options", "include_usage, continuous_usage_stats, resumable"),
    Honoured("max_tokens", "completions: 16 unless given; chat: the room left"),
    Honoured("max_completion_tokens", "another name of max_tokens"),
    Honoured("min_tokens", "0 to max_tokens"),
    Honoured("n", "1 to 128"),
    Honoured("best_of", "equal to n"),
    Completions(Honoured("echo", "a boolean")),
    Chat(Unsupported("echo", "[false]", "only /v1/completions has it")),
    Completions(Honoured("add_special_tokens", "false: no BOS before a prompt of text")),
    Chat(Unsupported("add_special_tokens", "[false]", "the chat template writes them")),
};

// The sampling parameters (sampling_fields.h) stand between the two.
constexpr Parameter kOtherParameters[] = {
    // Where the answer ends.
    Honoured("stop", "a string or an array of up to 16"),
    Honoured("stop_token_ids", "an array of up to 16 token ids"),
    Honoured("ignore_eos", "a boolean"),
    // Its structure.
    Honoured("response_format", "text, json_object or json_schema"),
    Honoured("structured_outputs", "json, json_object, regex or choice"),
    Honoured("guided_json", "a schema"),
    Honoured("guided_regex", "an expression"),
    Honoured("guided_choice", "an array of strings"),
    Honoured("json_schema", "a schema, as an object or as text"),
    Honoured("regex", "an expression"),
    // Tools, and what the model thinks.
    Chat(Honoured("tools", "up to 128 functions, each with a schema of its parameters")),
    Chat(Honoured("tool_choice", "none, auto, required or a function's name")),
    Chat(Honoured("parallel_tool_calls", "false: at most one call")),
    Chat(Honoured("functions", "an older form of tools")),
    Chat(Honoured("function_call", "an older form of tool_choice: none, auto or a name")),
    Chat(Honoured("separate_reasoning", "false: what the model thinks is part of its answer")),
    Chat(Honoured("include_reasoning", "false: what the model thinks is left out")),
    // What the chat template is told.
    Chat(Honoured("chat_template_kwargs", "an object of variables")),
    Chat(Honoured("reasoning_effort", "none, minimal, low, medium, high or xhigh")),
    Chat(Honoured("enable_thinking", "a boolean")),
    Chat(Honoured("thinking", "an object with the type enabled or disabled")),
    Chat(Honoured("add_generation_prompt", "false: the prompt ends with the last message")),
    Chat(Honoured("continue_final_message", "true: the answer goes on with the last message")),
    // What is told about it.
    Completions(Honoured("logprobs", "0 to 20")),
    Chat(Honoured("logprobs", "a boolean")),
    Chat(Honoured("top_logprobs", "0 to 20; above 0 with logprobs")),
    Honoured("return_token_ids", "a boolean"),
    Honoured("include_stop_str_in_output", "a boolean"),
    Honoured("skip_special_tokens", "false: the answer shows special tokens"),
    // When it is served, and beside whom.
    Honoured("priority", "-1000 to 1000, lower ones first"),
    Honoured("cache_salt", "1 to 256 bytes"),

    NoEffect("user", "a label of the caller's"),
    NoEffect("safety_identifier", "a label of the caller's"),
    NoEffect("metadata", "a label of the caller's"),
    NoEffect("request_id", "send the header X-Request-Id"),
    NoEffect("store", "nothing is stored"),
    NoEffect("service_tier", "there is one"),
    NoEffect("prediction", "answers are guessed ahead anyway"),
    NoEffect("prompt_cache_key", "prefixes are found anyway"),
    NoEffect("prompt_cache_options", "prefixes are kept while there is room"),
    NoEffect("prompt_cache_retention", "prefixes are kept while there is room"),
    NoEffect("cache_prompt", "prefixes are found anyway"),
    NoEffect("id_slot", "the scheduler chooses"),
    NoEffect("verbosity", "the model has no such setting"),
    NoEffect("guided_decoding_backend", "there is one"),
    NoEffect("repeat_last_n", "of repeat_penalty, which may only be 1"),
    NoEffect("spaces_between_special_tokens", "tokens are joined as they are"),

    // Only chats have these.
    Completions(Unsupported("tools", "[[]]", kOnlyChat)),
    Completions(Unsupported("tool_choice", R"(["none","auto"])", kOnlyChat)),
    Completions(NoEffect("parallel_tool_calls", kOnlyChat)),
    Completions(Unsupported("functions", "[[]]", kOnlyChat)),
    Completions(Unsupported("function_call", R"(["none","auto"])", kOnlyChat)),
    Completions(NoEffect("separate_reasoning", kOnlyChat)),
    Completions(NoEffect("include_reasoning", kOnlyChat)),
    Completions(Unsupported("chat_template_kwargs", "[{}]", kOnlyChat)),
    Completions(Unsupported("reasoning_effort", R"(["none"])", kOnlyChat)),
    Completions(Unsupported("enable_thinking", "[false]", kOnlyChat)),
    Completions(Unsupported("thinking", R"([{},{"type":"disabled"}])", kOnlyChat)),
    Completions(Unsupported("add_generation_prompt", "[true]", kOnlyChat)),
    Completions(Unsupported("continue_final_message", "[false]", kOnlyChat)),
    NoEffect("stream_reasoning", "it is streamed like the rest"),

    // Other media.
    Unsupported("web_search_options", "[]"),
    Unsupported("audio", "[]"),
    Unsupported("moderation", "[]"),
    Unsupported("modalities", R"([["text"]])", "only [\"text\"] is"),
    Unsupported("mm_processor_kwargs", "[{}]"),
    // Reasoning.
    Unsupported("reasoning", R"([{},{"effort":"none"}])"),
    Unsupported("thinking_token_budget", "[]"),
    // The prompt's form.
    Unsupported("suffix", R"([""])"),
    Unsupported("chat_template", R"([""])", "the model's own is used"),
    Unsupported("documents", "[[]]"),
    Unsupported("truncate_prompt_tokens", "[]", "shorten the prompt"),
    Unsupported("prompt_logprobs", "[]", "use echo with logprobs"),
    Unsupported("input_embeds", "[]"),
    Unsupported("prompt_embeds", "[]"),
    // Other structures.
    Unsupported("guided_grammar", R"([""])", "use guided_regex or guided_json"),
    Unsupported("grammar", R"([""])", "use regex or json_schema"),
    Unsupported("ebnf", R"([""])", "use regex or json_schema"),
    Unsupported("format", R"([""])", "use response_format"),
    Unsupported("structural_tag", "[]", "use regex or json_schema"),
    Unsupported("guided_whitespace_pattern", "[]", "use guided_regex"),
    Unsupported("guided_decoding", "[{}]", "use response_format"),
    Unsupported("nvext", "[{}]", "its fields stand beside the prompt"),
    Unsupported("grammar_string", R"([""])", "use regex or json_schema"),
    Unsupported("regex_pattern", R"([""])", "use regex"),
    Unsupported("response_schema", "[]", "use json_schema"),
    Unsupported("json_mode", "[false]", "use response_format"),
    // Other limits and ends of the answer.
    Unsupported("max_new_tokens", "[]", "use max_tokens"),
    Unsupported("min_new_tokens", "[0]", "use min_tokens"),
    Unsupported("n_predict", "[]", "use max_tokens"),
    Unsupported("stop_regex", "[[]]", "use stop"),
    Unsupported("no_stop_trim", "[false]", "use include_stop_str_in_output"),
    Unsupported("bad_words", "[[]]", "use logit_bias"),
    Unsupported("allowed_token_ids", "[[]]", "use logit_bias or guided_choice"),
    Unsupported("allowed_tokens", "[[]]", "use logit_bias or guided_choice"),
    Unsupported("banned_tokens", "[[]]", "use logit_bias"),
    Unsupported("banned_strings", "[[]]", "use logit_bias"),
    Unsupported("stop_sequences", "[[]]", "use stop"),
    Unsupported("stop_words", "[[]]", "use stop"),
    Unsupported("detokenize", "[true]", "use return_token_ids"),
    Unsupported("return_tokens_as_token_ids", "[false]", "use return_token_ids"),
    Unsupported("return_hidden_states", "[false]"),
    Unsupported("logprob_token_ids", "[[]]"),
    // Other ways of choosing tokens.
    Unsupported("repeat_penalty", "[1]", "use repetition_penalty"),
    Unsupported("length_penalty", "[1]", "leave it at 1"),
    Unsupported("early_stopping", "[false]", "leave it false"),
    Unsupported("use_beam_search", "[false]", "leave it false"),
    Unsupported("no_repeat_ngram_size", "[0]"),
    Unsupported("dry_multiplier", "[0]"),
    Unsupported("xtc_probability", "[0]"),
    Unsupported("mirostat", "[0]"),
    Unsupported("mirostat_mode", "[0]"),
    Unsupported("dynatemp_range", "[0]"),
    Unsupported("top_n_sigma", "[0,-1]"),
    Unsupported("top_a", "[0]"),
    Unsupported("tfs_z", "[1]", "leave it at 1"),
    Unsupported("options", "[{}]", "its fields stand beside the prompt"),
    Unsupported("samplers", "[[]]", "their order is fixed"),
    Unsupported("logits_processors", "[[]]"),
    Unsupported("custom_logit_processor", R"([""])"),
    // Other weights.
    Unsupported("lora_path", R"([""])"),
    Unsupported("lora", "[[]]"),
};

bool AsksForNothing(const Parameter& parameter, const Json& value) {
  if (value.is_null()) return true;
  for (const Json& neutral : Json::parse(parameter.neutral)) {
    if (value == neutral) return true;
  }
  return false;
}

std::string_view ToString(ParameterClass what) {
  switch (what) {
    case ParameterClass::kHonoured:
      return "honoured";
    case ParameterClass::kNoEffect:
      return "no_effect";
    case ParameterClass::kUnsupported:
      return "unsupported";
  }
  return "unknown";
}

}  // namespace

std::span<const Parameter> Parameters() {
  static const std::vector<Parameter> kAll = [] {
    std::vector<Parameter> all;
    for (const std::span<const Parameter> part :
         {std::span<const Parameter>(kRequestParameters), SamplingParameters(),
          std::span<const Parameter>(kOtherParameters)}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return kAll;
}

const Parameter* FindParameter(Endpoint endpoint, std::string_view name) {
  for (const Parameter& parameter : Parameters()) {
    const bool speaks = endpoint == Endpoint::kChat ? parameter.chat : parameter.completions;
    if (speaks && parameter.name == name) return &parameter;
  }
  return nullptr;
}

void RefuseUnsupported(Endpoint endpoint, const Json& body) {
  for (auto field = body.begin(); field != body.end(); ++field) {
    const Parameter* const parameter = FindParameter(endpoint, field.key());
    if (parameter == nullptr || parameter->what != ParameterClass::kUnsupported ||
        AsksForNothing(*parameter, field.value())) {
      continue;
    }
    throw ApiError(field.key(), Str(field.key(), " is not supported: ", parameter->note),
                   "unsupported_parameter");
  }
}

std::string ParametersJson() {
  JsonWriter json;
  json.BeginObject().Key("object").String("list").Key("data").BeginArray();
  for (const Parameter& parameter : Parameters()) {
    json.BeginObject().Key("name").String(parameter.name);
    json.Key("class").String(ToString(parameter.what)).Key("endpoints").BeginArray();
    if (parameter.completions) json.String("/v1/completions");
    if (parameter.chat) json.String("/v1/chat/completions");
    json.EndArray().Key("note").String(parameter.note);
    if (parameter.what == ParameterClass::kUnsupported) {
      json.Key("accepted_values").Raw(parameter.neutral);
    }
    json.EndObject();
  }
  json.EndArray().Key("headers");
  WriteHeaders(json);
  return json.EndObject().Take();
}

}  // namespace shoal::gateway
