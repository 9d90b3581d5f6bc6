#pragma once

// A completion or chat request: its fields, checked one by one, before anything is tokenized.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/api/fields/parameters.h"
#include "coordinator/gateway/api/fields/tools.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/prompt.h"

namespace shoal::gateway {

constexpr int64_t kPromptsMax = 64;
constexpr int64_t kAnswersMax = 128;     // Of each prompt.
constexpr int64_t kSequencesMax = 1024;  // Of a request.
constexpr int64_t kStopsMax = 16;
constexpr size_t kStopBytesMax = 1024;

struct ApiRequest {
  Endpoint endpoint = Endpoint::kCompletions;
  std::string model;  // Empty: whatever is served.
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;  // In every chunk.
  bool resumable = false;         // Its events have cursors. Only of a stream.
  // Of each answer: the seed only if `seeded`; tokens_max stands below, as it was asked for.
  GenerationParams params;
  bool seeded = false;
  std::optional<int64_t> tokens_max;
  int32_t answers_per_prompt = 1;  // "n"
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool shows_stop = false;     // What ended the answer is part of its text.
  bool shows_special = false;  // So are special tokens.
  std::string grammar_field;   // That params.grammar came from.
  bool echo = false;
  bool return_token_ids = false;
  std::vector<PromptInput> prompts;  // Of chat the one conversation; with all answers at most
                                     // kSequencesMax.
  bool adds_bos = true;              // To prompts of text, where that is the model's rule.
  ChatForm chat;                     // Of chat, with its tools.
  AskedTools tools;
  bool splits_reasoning = true;  // What the model thinks is no part of the answer's text,
  bool shows_reasoning = true;   // but stands beside it.
  // Fields nobody here knows, each once: "nonsense", "messages.nonsense" (ignored_fields.h).
  std::vector<std::string> ignored;
};

// Errors: ApiError naming the field, what it must be and what it is. What is done with each field
// is the table in parameters.h.
ApiRequest ParseApiRequest(Endpoint endpoint, const nlohmann::ordered_json& body);

}  // namespace shoal::gateway
