#pragma once

// A completion or chat request: its fields, checked one by one, before anything is tokenized.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "coordinator/gateway/response_format.h"
#include "transport/base/generation.h"

namespace shoal::gateway {

enum class Endpoint : uint8_t { kCompletions, kChat };

using PromptInput = std::variant<std::string, std::vector<int32_t>>;

struct ChatMessage {
  std::string role;
  std::string content;  // Text parts joined.
  std::optional<std::string> name;
};

constexpr int64_t kChoicesMax = 64;
constexpr int64_t kStopsMax = 16;
constexpr size_t kStopBytesMax = 1024;

struct ApiRequest {
  Endpoint endpoint = Endpoint::kCompletions;
  std::string model;  // Empty: whatever is served.
  bool stream = false;
  bool include_usage = false;
  SamplingParams sampling;  // The seed only if `seeded`.
  bool seeded = false;
  std::optional<int64_t> tokens_max;
  int32_t answers_per_prompt = 1;  // "n"
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  AskedGrammar grammar;
  bool echo = false;
  bool return_token_ids = false;
  int32_t priority = 0;  // As GenerationParams, like the two below.
  std::string cache_salt;
  int32_t top_logprobs = -1;
  std::vector<PromptInput> prompts;   // Completions; at most kChoicesMax with all answers.
  std::vector<ChatMessage> messages;  // Chat.
  std::vector<std::string> ignored;   // Fields nobody here knows.
};

// Errors: ApiError naming the field, what it must be and what it is. Fields that change nothing
// here (user, metadata, store, ...) are accepted; those that would change the answer in a way that
// is not supported are refused.
ApiRequest ParseApiRequest(Endpoint endpoint, const nlohmann::ordered_json& body);

}  // namespace shoal::gateway
