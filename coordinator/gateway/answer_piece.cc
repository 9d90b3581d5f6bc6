#include "coordinator/gateway/answer_piece.h"

// The JSON of choices, chunks and log-probabilities.

#include <map>

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

void WriteIds(JsonWriter& json, const std::vector<int32_t>& ids, size_t begin) {
  json.BeginArray();
  for (size_t i = begin; i < ids.size(); ++i) json.Int(ids[i]);
  json.EndArray();
}

bool HasNoLogprob(const AnswerPiece& piece, size_t i) { return piece.echoed_count > 0 && i == 0; }

// One array over the piece's tokens; `write` adds an element.
template <typename Write>
void WriteArray(JsonWriter& json, std::string_view key, const AnswerPiece& piece, Write write) {
  json.Key(key).BeginArray();
  for (size_t i = 0; i < piece.tokens.size(); ++i) write(i);
  json.EndArray();
}

void WriteTopByString(JsonWriter& json, const AnswerFormat& format, int32_t token,
                      const TokenLogprobs& logprobs) {
  // Two ids may read the same; the more probable, which comes first, stands for both.
  std::map<std::string, bool> seen;
  json.BeginObject();
  const auto add = [&](int32_t id, float logprob) {
    std::string string = TokenString(format, id);
    if (seen.emplace(string, true).second) json.Key(string).Float(logprob);
  };
  for (const auto& [id, logprob] : logprobs.top) add(id, logprob);
  add(token, logprobs.logprob);  // The token itself is always there, as with OpenAI.
  json.EndObject();
}

void WriteCompletionLogprobs(JsonWriter& json, const AnswerFormat& format,
                             const AnswerPiece& piece) {
  json.BeginObject();
  WriteArray(json, "tokens", piece,
             [&](size_t i) { json.String(TokenString(format, piece.tokens[i])); });
  WriteArray(json, "token_logprobs", piece, [&](size_t i) {
    HasNoLogprob(piece, i) ? json.Null() : json.Float(piece.logprobs[i].logprob);
  });
  WriteArray(json, "top_logprobs", piece, [&](size_t i) {
    if (HasNoLogprob(piece, i)) {
      json.Null();
    } else {
      WriteTopByString(json, format, piece.tokens[i], piece.logprobs[i]);
    }
  });
  WriteArray(json, "text_offset", piece, [&](size_t i) { json.Int(piece.text_offsets[i]); });
  if (format.return_token_ids) {
    WriteArray(json, "token_ids", piece, [&](size_t i) { json.Int(piece.tokens[i]); });
    WriteArray(json, "top_token_ids", piece, [&](size_t i) {
      if (HasNoLogprob(piece, i)) return static_cast<void>(json.Null());
      json.BeginArray();
      for (const auto& [id, logprob] : piece.logprobs[i].top) json.Int(id);
      json.EndArray();
    });
    WriteArray(json, "top_token_logprobs", piece, [&](size_t i) {
      if (HasNoLogprob(piece, i)) return static_cast<void>(json.Null());
      json.BeginArray();
      for (const auto& [id, logprob] : piece.logprobs[i].top) json.Float(logprob);
      json.EndArray();
    });
  }
  json.EndObject();
}

void WriteChatEntry(JsonWriter& json, const AnswerFormat& format, int32_t id, float logprob) {
  const std::string bytes = TokenBytes(format, id);
  json.Key("token").String(bytes).Key("logprob").Float(logprob).Key("bytes").BeginArray();
  for (const char c : bytes) json.Int(static_cast<unsigned char>(c));
  json.EndArray().Key("token_id").Int(id);
}

void WriteChatLogprobs(JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece) {
  json.BeginObject();
  WriteArray(json, "content", piece, [&](size_t i) {
    json.BeginObject();
    WriteChatEntry(json, format, piece.tokens[i], piece.logprobs[i].logprob);
    json.Key("top_logprobs").BeginArray();
    for (const auto& [id, logprob] : piece.logprobs[i].top) {
      json.BeginObject();
      WriteChatEntry(json, format, id, logprob);
      json.EndObject();
    }
    json.EndArray().EndObject();
  });
  json.Key("refusal").Null().EndObject();
}

// "logprobs", "finish_reason" and the token ids: what every form of a choice ends with.
void WriteChoiceRest(JsonWriter& json, const AnswerFormat& format, const AnswerPiece& piece) {
  json.Key("logprobs");
  if (format.top_logprobs < 0 || piece.logprobs.empty()) {
    json.Null();
  } else if (format.endpoint == Endpoint::kChat) {
    WriteChatLogprobs(json, format, piece);
  } else {
    WriteCompletionLogprobs(json, format, piece);
  }
  json.Key("finish_reason");
  piece.finish == FinishReason::kNone ? json.Null() : json.String(ToString(piece.finish));
  if (!format.return_token_ids) return;
  json.Key("token_ids");
  WriteIds(json, piece.tokens, piece.echoed_count);
  if (piece.is_first) {
    json.Key("prompt_token_ids");
    WriteIds(json, piece.prompt_ids, 0);
  }
}

void WriteUsage(JsonWriter& json, const Usage& usage) {
  json.Key("usage").BeginObject().Key("prompt_tokens").Int(usage.prompt_tokens);
  json.Key("completion_tokens").Int(usage.completion_tokens);
  json.Key("total_tokens").Int(usage.prompt_tokens + usage.completion_tokens);
  json.Key("prompt_tokens_details").BeginObject().Key("cached_tokens").Int(usage.cached_tokens);
  json.EndObject().EndObject();
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
    if (delta == Delta::kText) json.Key("content").String(piece.text);
    json.EndObject();
  }
  WriteChoiceRest(json, format, piece);
  json.EndObject().EndArray();
  if (piece.usage) {
    WriteUsage(json, *piece.usage);
  } else if (format.include_usage) {
    json.Key("usage").Null();
  }
  if (piece.is_first && choice == 0) WriteWarnings(json, format.warnings);
  return "data: " + json.EndObject().Take() + "\n\n";
}

}  // namespace

void AnswerPiece::Append(AnswerPiece&& next) {
  if (next.is_first) {
    is_first = true;
    prompt_ids = std::move(next.prompt_ids);
    echoed_count = next.echoed_count;
  }
  text += next.text;
  tokens.insert(tokens.end(), next.tokens.begin(), next.tokens.end());
  for (TokenLogprobs& entry : next.logprobs) logprobs.push_back(std::move(entry));
  text_offsets.insert(text_offsets.end(), next.text_offsets.begin(), next.text_offsets.end());
  finish = next.finish;
}

std::string FormatEvents(const AnswerFormat& format, int64_t choice, const AnswerPiece& piece) {
  const bool shows_tokens =
      !piece.tokens.empty() && (format.return_token_ids || format.top_logprobs >= 0);
  const bool has_content = !piece.text.empty() || shows_tokens;
  if (format.endpoint == Endpoint::kCompletions) {
    const bool warns = choice == 0 && !format.warnings.empty();
    const bool shows_start = piece.is_first && (format.return_token_ids || warns);
    if (!has_content && !shows_start && piece.finish == FinishReason::kNone) return "";
    return FormatChunk(format, choice, piece, Delta::kText);
  }
  std::string events;
  if (piece.is_first) {
    AnswerPiece role;
    role.is_first = true;
    role.prompt_ids = piece.prompt_ids;
    role.usage = piece.usage;
    events += FormatChunk(format, choice, role, Delta::kRole);
  }
  if (has_content) {
    AnswerPiece content = piece;
    content.is_first = false;
    content.finish = FinishReason::kNone;
    events += FormatChunk(format, choice, content, Delta::kText);
  }
  if (piece.finish != FinishReason::kNone) {
    AnswerPiece end;
    end.finish = piece.finish;
    end.usage = piece.usage;
    events += FormatChunk(format, choice, end, Delta::kNothing);
  }
  return events;
}

std::string FormatUsageEvent(const AnswerFormat& format, const Usage& usage) {
  JsonWriter json;
  WriteHead(json, format, true);
  json.Key("choices").BeginArray().EndArray();
  WriteUsage(json, usage);
  return "data: " + json.EndObject().Take() + "\n\n";
}

std::string FormatAnswer(const AnswerFormat& format, const std::vector<AnswerPiece>& choices,
                         const Usage& usage) {
  JsonWriter json;
  WriteHead(json, format, false);
  json.Key("choices").BeginArray();
  for (size_t i = 0; i < choices.size(); ++i) {
    json.BeginObject().Key("index").Int(static_cast<int64_t>(i));
    if (format.endpoint == Endpoint::kCompletions) {
      json.Key("text").String(choices[i].text);
    } else {
      json.Key("message").BeginObject().Key("role").String("assistant");
      json.Key("content").String(choices[i].text).Key("refusal").Null().EndObject();
    }
    WriteChoiceRest(json, format, choices[i]);
    json.EndObject();
  }
  json.EndArray();
  WriteUsage(json, usage);
  WriteWarnings(json, format.warnings);
  return json.EndObject().Take();
}

}  // namespace shoal::gateway
