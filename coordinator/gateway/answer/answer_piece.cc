#include "coordinator/gateway/answer/answer_piece.h"

// The JSON of choices, chunks and log-probabilities.

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "coordinator/gateway/answer/call_id.h"
#include "transport/base/utf8.h"

namespace shoal::gateway {
namespace {

std::string TokenBytes(const AnswerFormat& format, int32_t id) {
  return format.tokenizer == nullptr ? "" : format.tokenizer->TokenBytes(id, false);
}

// OpenAI's form of a token that is not text by itself: bytes:\xe2\x82
std::string TokenString(const AnswerFormat& format, int32_t id) {
  std::string bytes = TokenBytes(format, id);
  if (IsWellFormedUtf8(bytes)) return bytes;
  constexpr char kHex[] = "0123456789abcdef";
  std::string escaped = "bytes:";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    escaped += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
  }
  return escaped;
}

void WriteTopByString(JsonWriter& json, const AnswerFormat& format, int32_t token,
                      const LogprobRun& logprobs, size_t i) {
  // Two ids may read the same; the more probable, which comes first, stands for both.
  std::map<std::string, bool> seen;
  json.BeginObject();
  const auto add = [&](int32_t id, float logprob) {
    std::string string = TokenString(format, id);
    if (seen.emplace(string, true).second) json.Key(string).Float(logprob);
  };
  for (const auto& [id, logprob] : logprobs.top(i)) add(id, logprob);
  add(token, *logprobs.logprob(i));  // The token itself is always there, as with OpenAI.
  json.EndObject();
}

void WriteChatEntry(JsonWriter& json, const AnswerFormat& format, int32_t id, float logprob) {
  const std::string bytes = TokenBytes(format, id);
  json.Key("token").String(bytes).Key("logprob").Float(logprob).Key("bytes").BeginArray();
  for (const char c : bytes) json.Int(static_cast<unsigned char>(c));
  json.EndArray().Key("token_id").Int(id);
}

}  // namespace

// A field of a choice that is an array along its tokens, or along its prompt's.
struct ArrayField {
  std::string_view key;
  size_t (*begin)(const AnswerPiece&);  // Its first element of a piece,
  size_t (*end)(const AnswerPiece&);    // and after its last one.
  void (*write)(JsonWriter&, const AnswerFormat&, const AnswerPiece&, size_t i);
};

namespace {

size_t First(const AnswerPiece&) { return 0; }
size_t FirstGenerated(const AnswerPiece& piece) { return piece.echoed_count; }
size_t TokenCount(const AnswerPiece& piece) { return piece.tokens.size(); }
size_t PromptCount(const AnswerPiece& piece) { return piece.prompt_ids.size(); }

void WriteTokenId(JsonWriter& json, const AnswerFormat&, const AnswerPiece& piece, size_t i) {
  json.Int(piece.tokens[i]);
}

constexpr ArrayField kTokenIds = {"token_ids", FirstGenerated, TokenCount, WriteTokenId};

constexpr ArrayField kPromptTokenIds = {
    "prompt_token_ids", First, PromptCount,
    [](JsonWriter& json, const AnswerFormat&, const AnswerPiece& piece, size_t i) {
      json.Int(piece.prompt_ids[i]);
    }};

// What `logprobs` has; the last three only if ids were asked for.
constexpr ArrayField kCompletionLogprobs[] = {
    {"tokens", First, TokenCount,
     [](JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece, size_t i) {
       json.String(TokenString(format, piece.tokens[i]));
     }},
    {"token_logprobs", First, TokenCount,
     [](JsonWriter& json, const AnswerFormat&, const AnswerPiece& piece, size_t i) {
       const std::optional<float> logprob = piece.logprobs.logprob(i);
       logprob ? json.Float(*logprob) : json.Null();
     }},
    {"top_logprobs", First, TokenCount,
     [](JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece, size_t i) {
       if (!piece.logprobs.logprob(i)) return static_cast<void>(json.Null());
       WriteTopByString(json, format, piece.tokens[i], piece.logprobs, i);
     }},
    {"text_offset", First, TokenCount,
     [](JsonWriter& json, const AnswerFormat&, const AnswerPiece& piece, size_t i) {
       json.Int(piece.text_offsets[i]);
     }},
    {"token_ids", First, TokenCount, WriteTokenId},
    {"top_token_ids", First, TokenCount,
     [](JsonWriter& json, const AnswerFormat&, const AnswerPiece& piece, size_t i) {
       if (!piece.logprobs.logprob(i)) return static_cast<void>(json.Null());
       json.BeginArray();
       for (const auto& [id, logprob] : piece.logprobs.top(i)) json.Int(id);
       json.EndArray();
     }},
    {"top_token_logprobs", First, TokenCount,
     [](JsonWriter& json, const AnswerFormat&, const AnswerPiece& piece, size_t i) {
       if (!piece.logprobs.logprob(i)) return static_cast<void>(json.Null());
       json.BeginArray();
       for (const auto& [id, logprob] : piece.logprobs.top(i)) json.Float(logprob);
       json.EndArray();
     }},
};
constexpr size_t kWithoutIds = 4;

constexpr ArrayField kChatLogprobs[] = {
    {"content", First, TokenCount,
     [](JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece, size_t i) {
       json.BeginObject();
       WriteChatEntry(json, format, piece.tokens[i], *piece.logprobs.logprob(i));
       json.Key("top_logprobs").BeginArray();
       for (const auto& [id, logprob] : piece.logprobs.top(i)) {
         json.BeginObject();
         WriteChatEntry(json, format, id, logprob);
         json.EndObject();
       }
       json.EndArray().EndObject();
     }},
};

std::span<const ArrayField> LogprobFields(const AnswerFormat& format) {
  if (format.endpoint == Endpoint::kChat) return kChatLogprobs;
  const std::span<const ArrayField> fields = kCompletionLogprobs;
  return format.return_token_ids ? fields : fields.first(kWithoutIds);
}

void EndLogprobs(JsonWriter& json, const AnswerFormat& format) {
  if (format.endpoint == Endpoint::kChat) json.Key("refusal").Null();
  json.EndObject();
}

void WriteFinishReason(JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece) {
  json.Key("finish_reason");
  if (piece.finish == FinishReason::kNone) {
    json.Null();
  } else if (piece.finish == FinishReason::kStop && piece.has_called) {
    json.String(format.legacy_calls ? "function_call" : "tool_calls");
  } else {
    json.String(ToString(piece.finish));
  }
}

void WriteFunction(JsonWriter& json, const text::ToolDelta& call) {
  json.BeginObject();
  if (!call.name.empty()) json.Key("name").String(call.name);
  json.Key("arguments").String(call.arguments).EndObject();
}

// Of a chunk: a stretch of a call has its id and name if it is the first one. `calls` are as many
// as there are; of a body each is whole, and needs no index.
void WriteCalls(JsonWriter& json, const AnswerFormat& format, int64_t choice,
                const std::vector<text::ToolDelta>& calls, bool is_chunk) {
  if (calls.empty()) return;
  if (format.legacy_calls) return WriteFunction(json.Key("function_call"), calls.front());
  json.Key("tool_calls").BeginArray();
  for (const text::ToolDelta& call : calls) {
    json.BeginObject();
    if (is_chunk) json.Key("index").Int(call.call);
    if (!call.name.empty()) {
      json.Key("id").String(CallId(format.id, choice, call.call, format.short_call_ids));
      json.Key("type").String("function");
    }
    WriteFunction(json.Key("function"), call);
    json.EndObject();
  }
  json.EndArray();
}

// Joined to what is there of the same call.
void AddCall(std::vector<text::ToolDelta>& calls, text::ToolDelta next) {
  if (!calls.empty() && calls.back().call == next.call) {
    calls.back().arguments += next.arguments;
  } else {
    calls.push_back(std::move(next));
  }
}

void WriteArray(JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece,
                const ArrayField& field) {
  json.Key(field.key).BeginArray();
  for (size_t i = field.begin(piece); i < field.end(piece); ++i) {
    field.write(json, format, piece, i);
  }
  json.EndArray();
}

// "logprobs", "finish_reason" and the token ids: what every chunk of a choice ends with.
void WriteChoiceRest(JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece) {
  json.Key("logprobs");
  if (format.top_logprobs < 0 || piece.logprobs.empty()) {
    json.Null();
  } else {
    json.BeginObject();
    for (const ArrayField& field : LogprobFields(format)) WriteArray(json, format, piece, field);
    EndLogprobs(json, format);
  }
  WriteFinishReason(json, format, piece);
  if (!format.return_token_ids) return;
  WriteArray(json, format, piece, kTokenIds);
  // A long prompt's ids come in several chunks.
  if (piece.is_first || !piece.prompt_ids.empty()) {
    WriteArray(json, format, piece, kPromptTokenIds);
  }
}

void WriteUsage(JsonWriter& json, const Usage& usage) {
  json.Key("usage").BeginObject().Key("prompt_tokens").Int(usage.prompt_tokens);
  json.Key("completion_tokens").Int(usage.completion_tokens);
  json.Key("total_tokens").Int(usage.prompt_tokens + usage.completion_tokens);
  json.Key("prompt_tokens_details").BeginObject().Key("cached_tokens").Int(usage.cached_tokens);
  json.EndObject().EndObject();
}

void WriteNotes(JsonWriter& json, const std::optional<AnswerNote>& note,
                const std::optional<Degradation>& degradation) {
  if (!note && !degradation) return;
  json.Key("x_shoal").BeginObject();
  if (note) {
    json.Key("resumes").Int(note->resumes).Key("recomputing").Bool(note->recomputing);
  }
  if (degradation) {
    json.Key("degraded").Bool(true).Key("model_used").String(degradation->model_used);
    json.Key("rung").Int(degradation->rung).Key("kind").String(degradation->kind);
    json.Key("offline").Bool(degradation->kind != "model");
    if (!degradation->source.empty()) json.Key("source").String(degradation->source);
  }
  json.EndObject();
}

void WriteWarnings(JsonWriter& json, const std::vector<std::string>& warnings) {
  if (warnings.empty()) return;
  json.Key("warnings").BeginArray();
  for (const std::string& warning : warnings) json.String(warning);
  json.EndArray();
}

void WriteHead(JsonWriter& json, const AnswerFormat& format, bool is_chunk) {
  const bool chat = format.endpoint == Endpoint::kChat;
  json.BeginObject().Key("id").String(format.id).Key("object");
  json.String(!chat ? "text_completion" : is_chunk ? "chat.completion.chunk" : "chat.completion");
  json.Key("created").Int(format.created).Key("model").String(format.model);
  json.Key("system_fingerprint");
  format.fingerprint.empty() ? json.Null() : json.String(format.fingerprint);
}

enum class Delta { kText, kRole, kNothing };

std::string FormatChunk(const AnswerFormat& format, int64_t choice, const AnswerPiece& piece,
                        Delta delta) {
  JsonWriter json;
  WriteHead(json, format, true);
  json.Key("choices").BeginArray().BeginObject().Key("index").Int(choice);
  if (format.endpoint == Endpoint::kCompletions) {
    json.Key("text").String(piece.text);
  } else {
    json.Key("delta").BeginObject();
    if (delta == Delta::kRole) json.Key("role").String("assistant").Key("content").String("");
    if (delta == Delta::kText) {
      if (!piece.reasoning.empty()) json.Key("reasoning_content").String(piece.reasoning);
      const bool has_other = !piece.reasoning.empty() || !piece.calls.empty();
      if (!piece.text.empty() || !has_other) json.Key("content").String(piece.text);
      WriteCalls(json, format, choice, piece.calls, /*is_chunk=*/true);
    }
    json.EndObject();
  }
  WriteChoiceRest(json, format, piece);
  json.EndObject().EndArray();
  if (piece.usage) {
    WriteUsage(json, *piece.usage);
  } else if (format.include_usage) {
    json.Key("usage").Null();
  }
  WriteNotes(json, piece.note, piece.is_first ? format.degradation : std::nullopt);
  if (piece.is_first && choice == 0) WriteWarnings(json, format.warnings);
  return "data: " + json.EndObject().Take() + "\n\n";
}

}  // namespace

void AnswerPiece::Append(AnswerPiece&& next) {
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  is_first = is_first || next.is_first;
  echoed_count += next.echoed_count;  // The prompt comes before all else.
  text += next.text;
  reasoning += next.reasoning;
  for (text::ToolDelta& call : next.calls) AddCall(calls, std::move(call));
  has_called = has_called || next.has_called;
  append(tokens, next.tokens);
  append(text_offsets, next.text_offsets);
  append(prompt_ids, next.prompt_ids);
  logprobs.Append(next.logprobs);
  finish = next.finish;
  cached_tokens += next.cached_tokens;
  known_tokens += next.known_tokens;
  if (next.usage) usage = next.usage;
  units_end = next.units_end;
}

std::string FormatEvents(const AnswerFormat& format, int64_t choice, const AnswerPiece& piece,
                         const EventId& id) {
  const auto id_line = [&](int64_t units, bool ended) { return id ? id(units, ended) : ""; };
  const bool ends = piece.finish != FinishReason::kNone;
  const bool shows_tokens =
      !piece.tokens.empty() && (format.return_token_ids || format.top_logprobs >= 0);
  const bool has_content = piece.has_words() || shows_tokens;
  if (format.endpoint == Endpoint::kCompletions) {
    const bool warns =
        piece.is_first && ((choice == 0 && !format.warnings.empty()) || format.degradation);
    const bool shows_prompt =
        format.return_token_ids && (piece.is_first || !piece.prompt_ids.empty());
    if (!has_content && !shows_prompt && !warns && !ends) return "";
    return id_line(piece.units_end, ends) + FormatChunk(format, choice, piece, Delta::kText);
  }
  std::string events;
  if (piece.is_first || !piece.prompt_ids.empty()) {
    AnswerPiece prompt;
    prompt.prompt_ids = piece.prompt_ids;
    prompt.is_first = piece.is_first;
    prompt.usage = piece.usage;
    const int64_t units = piece.units_begin + (piece.is_first ? 1 : 0) +
                          static_cast<int64_t>(piece.prompt_ids.size());
    events += id_line(units, false) +
              FormatChunk(format, choice, prompt, piece.is_first ? Delta::kRole : Delta::kNothing);
  }
  if (has_content) {
    AnswerPiece content = piece;
    content.is_first = false;
    content.prompt_ids.clear();
    content.finish = FinishReason::kNone;
    content.note.reset();
    events += id_line(piece.units_end, false) + FormatChunk(format, choice, content, Delta::kText);
  }
  if (ends) {
    AnswerPiece end;
    end.finish = piece.finish;
    end.has_called = piece.has_called;
    end.usage = piece.usage;
    end.note = piece.note;
    events += id_line(piece.units_end, true) + FormatChunk(format, choice, end, Delta::kNothing);
  }
  return events;
}

std::string FormatRecomputingEvent(const AnswerFormat& format) {
  JsonWriter json;
  WriteHead(json, format, true);
  json.Key("choices").BeginArray().EndArray();
  json.Key("x_shoal").BeginObject().Key("recomputing").Bool(true).EndObject();
  return "data: " + json.EndObject().Take() + "\n\n";
}

std::string FormatUsageEvent(const AnswerFormat& format, const Usage& usage,
                             const std::optional<AnswerNote>& note) {
  JsonWriter json;
  WriteHead(json, format, true);
  json.Key("choices").BeginArray().EndArray();
  WriteUsage(json, usage);
  WriteNotes(json, note, std::nullopt);
  return "data: " + json.EndObject().Take() + "\n\n";
}

AnswerBody::AnswerBody(std::shared_ptr<const AnswerFormat> format,
                       std::vector<std::deque<AnswerPiece>> choices, const Usage& usage,
                       const std::optional<AnswerNote>& note)
    : format_(std::move(format)), choices_(std::move(choices)) {
  Add([this](JsonWriter& json) {
    WriteHead(json, *format_, false);
    json.Key("choices").BeginArray();
  });
  for (size_t i = 0; i < choices_.size(); ++i) AddChoice(i);
  Add([this, usage, note](JsonWriter& json) {
    json.EndArray();
    WriteUsage(json, usage);
    WriteNotes(json, note, format_->degradation);
    WriteWarnings(json, format_->warnings);
    json.EndObject();
  });
}

std::string AnswerBody::Next() {
  while (part_ < parts_.size() && json_.text().size() < kPieceBytes) {
    if (parts_[part_](json_)) ++part_;
  }
  return json_.Take();
}

void AnswerBody::Add(std::function<void(JsonWriter&)> write) {
  parts_.push_back([write = std::move(write)](JsonWriter& json) {
    write(json);
    return true;
  });
}

void AnswerBody::AddChoice(size_t index) {
  const std::deque<AnswerPiece>& pieces = choices_[index];
  Add([index](JsonWriter& json) {
    json.BeginObject().Key("index").Int(static_cast<int64_t>(index));
  });
  if (format_->endpoint == Endpoint::kCompletions) {
    AddText(pieces, "text", &AnswerPiece::text);
  } else {
    AddMessage(pieces, index);
  }
  const bool has_logprobs = format_->top_logprobs >= 0 &&
                            std::any_of(pieces.begin(), pieces.end(), [](const AnswerPiece& piece) {
                              return !piece.logprobs.empty();
                            });
  if (has_logprobs) {
    Add([](JsonWriter& json) { json.Key("logprobs").BeginObject(); });
    for (const ArrayField& field : LogprobFields(*format_)) AddArray(pieces, field);
    Add([this](JsonWriter& json) { EndLogprobs(json, *format_); });
  } else {
    Add([](JsonWriter& json) { json.Key("logprobs").Null(); });
  }
  Add([this, &last = pieces.back()](JsonWriter& json) { WriteFinishReason(json, *format_, last); });
  if (format_->return_token_ids) {
    AddArray(pieces, kTokenIds);
    AddArray(pieces, kPromptTokenIds);
  }
  Add([](JsonWriter& json) { json.EndObject(); });
}

void AnswerBody::AddMessage(const std::deque<AnswerPiece>& pieces, size_t index) {
  Add([](JsonWriter& json) { json.Key("message").BeginObject().Key("role").String("assistant"); });
  std::vector<text::ToolDelta> calls;
  bool has_text = false;
  bool has_reasoning = false;
  for (const AnswerPiece& piece : pieces) {
    has_text = has_text || !piece.text.empty();
    has_reasoning = has_reasoning || !piece.reasoning.empty();
    for (const text::ToolDelta& call : piece.calls) AddCall(calls, call);
  }
  if (has_text || calls.empty()) {
    AddText(pieces, "content", &AnswerPiece::text);
  } else {
    Add([](JsonWriter& json) { json.Key("content").Null(); });
  }
  if (has_reasoning) AddText(pieces, "reasoning_content", &AnswerPiece::reasoning);
  Add([this, index, calls = std::move(calls)](JsonWriter& json) {
    WriteCalls(json, *format_, static_cast<int64_t>(index), calls, /*is_chunk=*/false);
    json.Key("refusal").Null().EndObject();
  });
}

void AnswerBody::AddText(const std::deque<AnswerPiece>& pieces, std::string_view key,
                         std::string AnswerPiece::*text) {
  Add([key](JsonWriter& json) { json.Key(key).BeginString(); });
  parts_.push_back([piece = pieces.begin(), end = pieces.end(), text](JsonWriter& json) mutable {
    if (piece != end) json.StringPart((*piece++).*text);
    return piece == end;
  });
  Add([](JsonWriter& json) { json.EndString(); });
}

void AnswerBody::AddArray(const std::deque<AnswerPiece>& pieces, const ArrayField& field) {
  Add([&field](JsonWriter& json) { json.Key(field.key).BeginArray(); });
  parts_.push_back([this, &field, piece = pieces.begin(), end = pieces.end(),
                    i = field.begin(pieces.front())](JsonWriter& json) mutable {
    if (i < field.end(*piece)) {
      field.write(json, *format_, *piece, i++);
      return false;
    }
    if (++piece == end) return true;
    i = field.begin(*piece);
    return false;
  });
  Add([](JsonWriter& json) { json.EndArray(); });
}

}  // namespace shoal::gateway
