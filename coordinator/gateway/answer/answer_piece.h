#pragma once

// A stretch of one choice's answer, and how it is written as JSON. A streamed answer is written
// piece by piece, an unstreamed one from all of its pieces: so both say the same.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/answer/logprob_run.h"
#include "coordinator/gateway/api/api_request.h"
#include "coordinator/gateway/json/json_writer.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/tools/call_scanner.h"

namespace shoal::gateway {

// About how much JSON a piece makes at most, and with it one event of a stream.
constexpr size_t kPieceBytes = 64 * 1024;

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // Of these, found in the prefix cache.
  int64_t completion_tokens = 0;
};

// What the last chunk, or a body, says of how the answer came to be. "x_shoal" in JSON.
struct AnswerNote {
  int64_t resumes = 0;       // How often other groups went on with its sequences.
  bool recomputing = false;  // Some of it was generated twice.
};

// That a lower rung of the ladder answers, which the first chunk of each choice, or a body, says.
// "x_shoal" in JSON.
struct Degradation {
  std::string model_used{};  // What the rung is called, or its model.
  int32_t rung = 0;
  std::string kind{};    // "model", "cache", "rules", "knowledge".
  std::string source{};  // Of a text that nothing computed: where it stands.
};

struct AnswerPiece {
  std::string text;  // Whole characters.
  // Of a chat's answer, what is told apart from its text:
  std::string reasoning{};
  std::vector<text::ToolDelta> calls{};
  bool has_called = false;  // With `finish`: there were calls, in this piece or before.
  // Parallel arrays. With echo, the first pieces' begin with the prompt.
  std::vector<int32_t> tokens;
  LogprobRun logprobs;                // Empty unless asked for.
  std::vector<int64_t> text_offsets;  // Code points of prompt and answer before the token.
  size_t echoed_count = 0;            // Of these, the prompt's.
  std::vector<int32_t> prompt_ids;    // In the first pieces, if ids were asked for.
  bool is_first = false;
  FinishReason finish = FinishReason::kNone;
  int64_t cached_tokens = 0;   // Of the prompt, as SequenceUpdate.
  int64_t known_tokens = 0;    // Generated before it, and left out: the client has them.
  std::optional<Usage> usage;  // So far, if each chunk says it.
  std::optional<AnswerNote> note;
  // Where in its choice's answer it begins and ends. A unit is what no piece cuts: that the answer
  // begins; a token of the prompt's ids; one that is echoed, or a stretch of echoed text; a
  // generated token; what is held back until the end.
  int64_t units_begin = 0;
  int64_t units_end = 0;

  void Append(AnswerPiece&& next);
  bool empty() const { return !has_words() && tokens.empty() && prompt_ids.empty() && !is_first; }
  bool has_words() const { return !text.empty() || !reasoning.empty() || !calls.empty(); }
  // About what it makes; more than enough for the usual lengths of tokens and numbers.
  size_t json_bytes() const {
    size_t bytes = text.size() + reasoning.size();
    for (const text::ToolDelta& call : calls) bytes += 64 + call.arguments.size();
    return bytes + 8 * prompt_ids.size() + 16 * tokens.size() + 48 * logprobs.entry_count();
  }
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
  std::shared_ptr<const void> owner{};  // Of the tokenizer. Null: it outlives the answer.
  std::vector<std::string> warnings;    // For people; said once.
  std::optional<Degradation> degradation{};
  bool short_call_ids = false;  // As CallId.
  bool legacy_calls = false;    // A message has one `function_call` rather than `tool_calls`.
};

// The line before an event's data, "id: CURSOR\n", for a client that has its choice's answer up to
// `units`, or to its end.
using EventId = std::function<std::string(int64_t units, bool ended)>;

// The SSE events ("data: ...\n\n") of one piece; empty if it shows nothing. `id`: null if they have
// none.
std::string FormatEvents(const AnswerFormat& format, int64_t choice, const AnswerPiece& piece,
                         const EventId& id = nullptr);
// These two are of no choice.
std::string FormatUsageEvent(const AnswerFormat& format, const Usage& usage,
                             const std::optional<AnswerNote>& note);
std::string FormatRecomputingEvent(const AnswerFormat& format);

struct ArrayField;

// The whole answer, choices in order, as one JSON text that is written a stretch at a time.
// Threading: thread-compatible.
class AnswerBody {
 public:
  AnswerBody(std::shared_ptr<const AnswerFormat> format,
             std::vector<std::deque<AnswerPiece>> choices, const Usage& usage,
             const std::optional<AnswerNote>& note);
  AnswerBody(const AnswerBody&) = delete;
  AnswerBody& operator=(const AnswerBody&) = delete;

  // The next stretch, of about kPieceBytes; empty once all is written.
  std::string Next();

 private:
  // Writes some of what it stands for. Result: whether that was all.
  using Part = std::function<bool(JsonWriter&)>;

  void Add(std::function<void(JsonWriter&)> write);
  void AddChoice(size_t index);
  void AddMessage(const std::deque<AnswerPiece>& pieces, size_t index);
  void AddText(const std::deque<AnswerPiece>& pieces, std::string_view key,
               std::string AnswerPiece::*text);
  void AddArray(const std::deque<AnswerPiece>& pieces, const ArrayField& field);

  const std::shared_ptr<const AnswerFormat> format_;
  const std::vector<std::deque<AnswerPiece>> choices_;
  std::vector<Part> parts_;
  size_t part_ = 0;  // The next one to write.
  JsonWriter json_;
};

}  // namespace shoal::gateway
