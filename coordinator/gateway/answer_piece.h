#pragma once

// A stretch of one choice's answer, and how it is written as JSON. A streamed answer is written
// piece by piece, an unstreamed one as a single piece: so both say the same.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/json_writer.h"
#include "parallel/text/tokenizer.h"

namespace shoal::gateway {

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // Of these, found in the prefix cache.
  int64_t completion_tokens = 0;
};

struct AnswerPiece {
  std::string text;
  // Parallel arrays. With echo, the first piece's begin with the prompt.
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;  // Empty unless asked for.
  std::vector<int64_t> text_offsets;    // Code points of prompt and answer before the token.
  size_t echoed_count = 0;              // Of these, the prompt's; the first has no log-probability.
  std::vector<int32_t> prompt_ids;      // In the first piece, if ids were asked for.
  bool is_first = false;
  FinishReason finish = FinishReason::kNone;
  int64_t cached_tokens = 0;   // Of the prompt, as SequenceUpdate.
  std::optional<Usage> usage;  // So far, if each chunk says it.

  void Append(AnswerPiece&& next);
  bool empty() const { return text.empty() && tokens.empty() && !is_first; }
};

// What all chunks of an answer share.
struct AnswerFormat {
  Endpoint endpoint = Endpoint::kCompletions;
  std::string id;
  std::string model;
  std::string fingerprint;
  int64_t created = 0;
  bool return_token_ids = false;
  bool include_usage = false;
  int32_t top_logprobs = -1;
  const text::Tokenizer* tokenizer = nullptr;
  std::vector<std::string> warnings;  // For people; said once.
};

// The SSE events ("data: ...\n\n") of one piece; empty if it shows nothing.
std::string FormatEvents(const AnswerFormat& format, int64_t choice, const AnswerPiece& piece);
std::string FormatUsageEvent(const AnswerFormat& format, const Usage& usage);
// The whole answer, choices in order.
std::string FormatAnswer(const AnswerFormat& format, const std::vector<AnswerPiece>& choices,
                         const Usage& usage);

}  // namespace shoal::gateway
