#pragma once

// A completion or chat request: its fields, checked one by one, before anything is tokenized.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "coordinator/gateway/api/parameters.h"
#include "coordinator/gateway/api/response_format.h"
#include "transport/base/generation/generation.h"

namespace shoal::gateway {

using PromptInput = std::variant<std::string, std::vector<int32_t>>;

struct ChatMessage {
  std::string role;
  std::string content;  // Text parts joined.
  std::optional<std::string> name;
};

constexpr int64_t kPromptsMax = 64;
constexpr int64_t kAnswersMax = 128;     // Of each prompt.
constexpr int64_t kSequencesMax = 1024;  // Of a request.
constexpr int64_t kStopsMax = 16;
constexpr size_t kIgnoredMax = 32;
constexpr size_t kIgnoredBytesMax = 100;
constexpr size_t kStopBytesMax = 1024;

struct ApiRequest {
  Endpoint endpoint = Endpoint::kCompletions;
  std::string model;  // Empty: whatever is served.
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;  // In every chunk.
  SamplingParams sampling;        // The seed only if `seeded`.
  bool seeded = false;
  std::optional<int64_t> tokens_max;
  int32_t answers_per_prompt = 1;  // "n"
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool shows_stop = false;     // What ended the answer is part of its text.
  bool shows_special = false;  // So are special tokens.
  AskedGrammar grammar;
  bool echo = false;
  bool return_token_ids = false;
  int32_t priority = 0;  // As GenerationParams, like the two below.
  std::string cache_salt;
  int32_t top_logprobs = -1;
  std::vector<PromptInput> prompts;   // Completions; at most kSequencesMax with all answers.
  bool adds_bos = true;               // To prompts of text, where that is the model's rule.
  std::vector<ChatMessage> messages;  // Chat.
  // Fields nobody here knows, each once: "nonsense", "messages.nonsense". At most kIgnoredMax, cut
  // at kIgnoredBytesMax, and then "...".
  std::vector<std::string> ignored;
};

// Errors: ApiError naming the field, what it must be and what it is. What is done with each field
// is the table in parameters.h.
ApiRequest ParseApiRequest(Endpoint endpoint, const nlohmann::ordered_json& body);

}  // namespace shoal::gateway
