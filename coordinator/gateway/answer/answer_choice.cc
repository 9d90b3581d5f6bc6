#include "coordinator/gateway/answer/answer_choice.h"

// Tokens are taken one by one, so that text, offsets and stops are the same for any batching.

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The byte of `text` that is so many code points after byte `at`.
size_t SkipCodePoints(const std::string& text, size_t at, int64_t count) {
  for (; count > 0 && at < text.size(); --count) {
    ++at;
    while (at < text.size() && IsContinuation(text[at])) ++at;
  }
  return at;
}

}  // namespace

AnswerChoice::AnswerChoice(int64_t index, const ApiRequest& request, PromptPlan plan,
                           const text::Tokenizer* tokenizer, AnswerOwner& owner,
                           const ChoicePosition& known)
    : index_(index),
      echo_(request.echo),
      return_token_ids_(request.return_token_ids),
      plan_(std::move(plan)),
      tokenizer_(tokenizer),
      owner_(owner),
      shows_stop_(request.shows_stop),
      shows_special_(request.shows_special),
      matcher_(request.stop, request.shows_stop),
      shows_reasoning_(request.shows_reasoning),
      calls_once_(!request.tools.parallel),
      known_units_(known.units),
      end_(known) {
  finished_ = known.ended;
  end_.ended = true;
  if (plan_.splits()) reader_.emplace(plan_.syntax);
  if (tokenizer != nullptr) decoder_.emplace(*tokenizer, /*skip_special=*/!request.shows_special);
}

bool AnswerChoice::IsStopId(int32_t id) const {
  const auto& ids = plan_.params.stop_ids;
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

void AnswerChoice::CountUnit(AnswerPiece& piece) {
  if (++units_ > known_units_) return;
  known_tokens_ += static_cast<int64_t>(piece.tokens.size() - piece.echoed_count);
  handed_over_ = units_;
  piece = {};
}

void AnswerChoice::CountUnitAndHandOver(AnswerPiece& piece) {
  CountUnit(piece);
  if (piece.json_bytes() >= kPieceBytes) HandOver(piece, false);
}

void AnswerChoice::HandOver(AnswerPiece& piece, bool stopped_early) {
  piece.units_begin = std::exchange(handed_over_, units_);
  piece.units_end = units_;
  piece.known_tokens = std::exchange(known_tokens_, 0);
  piece.cached_tokens = std::exchange(cached_tokens_, 0);
  owner_.OnPiece(*this, std::exchange(piece, {}), stopped_early);
}

void AnswerChoice::HandOverEnd(AnswerPiece& piece, FinishReason finish, bool stopped_early) {
  finished_ = true;
  if (units_ < known_units_) {
    ApiError error("",
                   Str("the answer ends after ", units_, " units, but the client has ",
                       known_units_, ": its cursor is of another answer"),
                   "cursor_mismatch");
    error.status = 500;
    error.type = "server_error";
    return Fail(error);
  }
  piece.finish = finish;
  piece.has_called = reader_ && reader_->call_count() > 0;
  end_.completion_tokens = generated_count_;
  HandOver(piece, stopped_early);
}

void AnswerChoice::Begin(AnswerPiece& piece) {
  begun_ = true;
  piece.is_first = true;
  CountUnit(piece);
  if (return_token_ids_) {
    for (const int32_t id : plan_.ids) {
      piece.prompt_ids.push_back(id);
      CountUnitAndHandOver(piece);
    }
  }
  // Offsets count from the start of the prompt's text, which the answer follows, whether or not it
  // is echoed.
  decoded_code_points_ = CountCodePoints(plan_.text);
  if (!echo_) return;
  // Stop strings are looked for in what is generated, not in the prompt.
  if (plan_.params.top_logprobs >= 0) return EchoToken(nullptr, piece);
  while (echoed_bytes_ < plan_.text.size()) {
    size_t end = std::min(echoed_bytes_ + kPieceBytes, plan_.text.size());
    while (end < plan_.text.size() && IsContinuation(plan_.text[end])) --end;
    EchoText(end, piece);
    CountUnitAndHandOver(piece);
  }
}

void AnswerChoice::EchoText(size_t end, AnswerPiece& piece) {
  piece.text.append(plan_.text, echoed_bytes_, end - echoed_bytes_);
  echoed_bytes_ = end;
}

void AnswerChoice::EchoToken(const TokenLogprobs* logprobs, AnswerPiece& piece) {
  SHOAL_CHECK(echoed_count_ < plan_.ids.size(), "log-probabilities beyond the prompt");
  const bool is_first = echoed_count_ == 0;
  const int32_t id = plan_.ids[echoed_count_++];
  piece.tokens.push_back(id);
  piece.text_offsets.push_back(std::min(echo_code_points_, decoded_code_points_));
  ++piece.echoed_count;
  logprobs == nullptr ? piece.logprobs.AddNone() : piece.logprobs.Add(*logprobs);
  size_t end = echoed_bytes_;
  if (tokenizer_ != nullptr && !(is_first && plan_.bos_added)) {
    if (!echo_decoder_) echo_decoder_.emplace(*tokenizer_, /*skip_special=*/false);
    const int64_t code_points = CountCodePoints(echo_decoder_->Push(id));
    echo_code_points_ += code_points;
    end = SkipCodePoints(plan_.text, end, code_points);
  }
  EchoText(echoed_count_ == plan_.ids.size() ? plan_.text.size() : end, piece);
  CountUnitAndHandOver(piece);
}

void AnswerChoice::EchoOnly() {
  AnswerPiece piece;
  Begin(piece);
  HandOverEnd(piece, FinishReason::kLength, false);
}

void AnswerChoice::AddText(std::string text, AnswerPiece& piece) {
  decoded_code_points_ += CountCodePoints(text);
  if (!IsPromised()) return AddFreed(matcher_.Push(text), piece);
  reader_ ? AddParts(reader_->Push(text), piece) : static_cast<void>(piece.text += text);
}

void AnswerChoice::AddFreed(std::string text, AnswerPiece& piece) {
  if (!reader_) {
    piece.text += text;
    return;
  }
  size_t begin = 0;
  for (const StopMatcher::Hidden& hidden : matcher_.hidden()) {
    AddParts(reader_->Push(std::string_view(text).substr(begin, hidden.at - begin)), piece);
    AddParts(reader_->PushSpecial(hidden.text), piece);
    begin = hidden.at;
  }
  AddParts(reader_->Push(std::string_view(text).substr(begin)), piece);
}

void AnswerChoice::AddParts(text::AnswerParts parts, AnswerPiece& piece) {
  piece.text += parts.content;
  if (shows_reasoning_) piece.reasoning += parts.reasoning;
  for (text::ToolDelta& call : parts.calls) {
    if (call.call == 0 || !calls_once_) piece.calls.push_back(std::move(call));
  }
}

void AnswerChoice::EndParts(AnswerPiece& piece) {
  if (reader_) AddParts(reader_->Finish(), piece);
}

// Stop strings are looked for after the tokens that min_tokens promises.
bool AnswerChoice::IsPromised() const {
  return generated_count_ <= plan_.params.sampling.min_tokens;
}

// A token that is not shown (a special one, or one that ends the answer) is no text, but a stop
// string may spell it.
void AnswerChoice::AddToken(int32_t id, AnswerPiece& piece) {
  const bool ends = IsStopId(id) && !shows_stop_;
  if (!ends) AddText(decoder_->Push(id), piece);
  const bool is_hidden = ends || (tokenizer_->IsSpecial(id) && !shows_special_);
  if (!is_hidden) return;
  const std::string text = tokenizer_->TokenBytes(id, /*skip_special=*/false);
  if (!IsPromised()) return AddFreed(matcher_.PushHidden(text), piece);
  if (reader_) AddParts(reader_->PushSpecial(text), piece);
}

// True if a stop string was found.
bool AnswerChoice::Consume(const SequenceUpdate& update, AnswerPiece& piece) {
  SHOAL_CHECK(plan_.params.top_logprobs < 0 || update.logprobs.size() == update.tokens.size(),
              update.logprobs.size(), " log-probabilities of ", update.tokens.size(), " tokens");
  if (!begun_) Begin(piece);
  cached_tokens_ += update.cached_tokens;
  end_.cached_tokens += update.cached_tokens;
  end_.resumes = std::max(end_.resumes, int64_t{update.resumes});
  for (const TokenLogprobs& logprobs : update.prompt_logprobs) EchoToken(&logprobs, piece);
  for (size_t i = 0; i < update.tokens.size(); ++i) {
    const int32_t id = update.tokens[i];
    ++generated_count_;
    // Arrays are as many as asked for; without them only ids are ever shown.
    piece.tokens.push_back(id);
    piece.text_offsets.push_back(decoded_code_points_);
    if (plan_.params.top_logprobs >= 0) piece.logprobs.Add(update.logprobs[i]);
    if (decoder_) AddToken(id, piece);
    if (matcher_.matched()) {
      EndParts(piece);
      CountUnit(piece);
      return true;
    }
    CountUnitAndHandOver(piece);
  }
  return false;
}

void AnswerChoice::OnTokens(const SequenceUpdate& update) {
  if (finished_) return;
  AnswerPiece piece;
  if (Consume(update, piece)) return HandOverEnd(piece, FinishReason::kStop, true);
  if (!piece.empty()) HandOver(piece, false);
}

// An end by an error leaves what came with it in place: whether tokens come with the error or
// before it makes no difference.
void AnswerChoice::OnFinish(const SequenceUpdate& update) {
  const bool failed = update.finish == FinishReason::kNumericError;
  if (failed && !(update.tokens.empty() && update.prompt_logprobs.empty())) OnTokens(update);
  if (finished_) return;
  if (failed) return Fail(NumericError(update.detail));
  if (update.finish != FinishReason::kStop && update.finish != FinishReason::kLength) {
    return Fail(FromStreamError({BusyReason::kGroupLost, "the group ended the sequence", 0}));
  }
  AnswerPiece piece;
  const bool stopped = Consume(update, piece);
  if (!stopped) {
    if (decoder_) AddText(decoder_->Finish(), piece);
    if (!matcher_.matched()) AddFreed(matcher_.Finish(), piece);
    EndParts(piece);
    CountUnit(piece);
  }
  HandOverEnd(piece, matcher_.matched() ? FinishReason::kStop : update.finish, false);
}

void AnswerChoice::OnError(const StreamError& error) {
  if (!finished_) Fail(FromStreamError(error));
}

void AnswerChoice::Fail(const ApiError& error) {
  finished_ = true;
  owner_.OnFailure(*this, error);
}

}  // namespace shoal::gateway
