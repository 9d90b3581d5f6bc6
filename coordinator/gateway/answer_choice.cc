#include "coordinator/gateway/answer_choice.h"

// Tokens are taken one by one, so that text, offsets and stops are the same for any batching.

#include <algorithm>

namespace shoal::gateway {

AnswerChoice::AnswerChoice(int64_t index, const ApiRequest& request, PromptPlan plan,
                           const text::Tokenizer* tokenizer, AnswerOwner& owner)
    : index_(index),
      echo_(request.echo),
      return_token_ids_(request.return_token_ids),
      plan_(std::move(plan)),
      tokenizer_(tokenizer),
      owner_(owner),
      matcher_(request.stop) {
  if (tokenizer != nullptr) decoder_.emplace(*tokenizer, /*skip_special=*/true);
}

bool AnswerChoice::IsStopId(int32_t id) const {
  const auto& ids = plan_.params.stop_ids;
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

void AnswerChoice::BeginPiece(std::vector<TokenLogprobs> prompt_logprobs, AnswerPiece& piece) {
  begun_ = true;
  piece.is_first = true;
  if (return_token_ids_) piece.prompt_ids = plan_.ids;
  if (!echo_) return;
  // Stop strings are looked for in what is generated, not in the prompt.
  piece.text = plan_.text;
  decoded_code_points_ = CountCodePoints(plan_.text);
  if (plan_.params.top_logprobs < 0) return;
  piece.echoed_count = plan_.ids.size();
  piece.tokens = plan_.ids;
  piece.logprobs.emplace_back();  // Nothing comes before the first token.
  for (TokenLogprobs& entry : prompt_logprobs) piece.logprobs.push_back(std::move(entry));
  std::optional<text::StreamDecoder> decoder;
  if (tokenizer_ != nullptr) decoder.emplace(*tokenizer_, /*skip_special=*/false);
  int64_t offset = 0;
  for (size_t i = 0; i < plan_.ids.size(); ++i) {
    piece.text_offsets.push_back(std::min(offset, decoded_code_points_));
    if (decoder && !(i == 0 && plan_.bos_added)) {
      offset += CountCodePoints(decoder->Push(plan_.ids[i]));
    }
  }
}

AnswerPiece AnswerChoice::EchoOnly() {
  AnswerPiece piece;
  BeginPiece({}, piece);
  piece.finish = FinishReason::kLength;
  finished_ = true;
  return piece;
}

void AnswerChoice::AddText(std::string text, AnswerPiece& piece) {
  decoded_code_points_ += CountCodePoints(text);
  piece.text += IsPromised() ? text : matcher_.Push(text);
}

// Stop strings are looked for behind what min_tokens promises.
bool AnswerChoice::IsPromised() const {
  return generated_count_ <= plan_.params.sampling.min_tokens;
}

// A token that is not shown (a special one, or one that ends the answer) is no text, but a stop
// string may spell it.
void AnswerChoice::AddToken(int32_t id, AnswerPiece& piece) {
  if (!IsStopId(id)) AddText(decoder_->Push(id), piece);
  if (IsPromised() || (!IsStopId(id) && !tokenizer_->IsSpecial(id))) return;
  piece.text += matcher_.PushHidden(tokenizer_->TokenBytes(id, /*skip_special=*/false));
}

// True if a stop string was found.
bool AnswerChoice::Consume(const SequenceUpdate& update, AnswerPiece& piece) {
  if (!begun_) BeginPiece(update.prompt_logprobs, piece);
  for (size_t i = 0; i < update.tokens.size(); ++i) {
    const int32_t id = update.tokens[i];
    ++generated_count_;
    // Arrays are as many as asked for; without them only ids are ever shown.
    piece.tokens.push_back(id);
    piece.text_offsets.push_back(decoded_code_points_);
    if (plan_.params.top_logprobs >= 0) piece.logprobs.push_back(update.logprobs[i]);
    if (decoder_) AddToken(id, piece);
    if (matcher_.matched()) return true;
  }
  return false;
}

bool AnswerChoice::CheckUpdate(const SequenceUpdate& update) {
  const bool wants = plan_.params.top_logprobs >= 0;
  const bool wants_prompt = plan_.params.prompt_logprobs && !begun_;
  if ((!wants || update.logprobs.size() == update.tokens.size()) &&
      (!wants_prompt || update.prompt_logprobs.size() + 1 == plan_.ids.size())) {
    return true;
  }
  ApiError error("", "the group's log-probabilities do not match its tokens", "internal_error");
  error.status = 500;
  error.type = "server_error";
  Fail(error);
  return false;
}

void AnswerChoice::OnTokens(const SequenceUpdate& update) {
  if (finished_ || !CheckUpdate(update)) return;
  AnswerPiece piece;
  const bool stopped = Consume(update, piece);
  if (stopped) {
    piece.finish = FinishReason::kStop;
    finished_ = true;
  }
  owner_.OnPiece(*this, std::move(piece), stopped);
}

void AnswerChoice::OnFinish(const SequenceUpdate& update) {
  if (finished_) return;
  if (update.finish == FinishReason::kNumericError) return Fail(NumericError(update.detail));
  if (update.finish != FinishReason::kStop && update.finish != FinishReason::kLength) {
    return Fail(FromStreamError({core::BusyReason::kGroupLost, "the group ended the sequence", 0}));
  }
  if (!CheckUpdate(update)) return;
  AnswerPiece piece;
  piece.finish = update.finish;
  if (!Consume(update, piece)) {
    if (decoder_) AddText(decoder_->Finish(), piece);
    if (!matcher_.matched()) piece.text += matcher_.Finish();
  }
  if (matcher_.matched()) piece.finish = FinishReason::kStop;
  finished_ = true;
  owner_.OnPiece(*this, std::move(piece), false);
}

void AnswerChoice::OnError(const core::StreamError& error) {
  if (!finished_) Fail(FromStreamError(error));
}

void AnswerChoice::Fail(const ApiError& error) {
  finished_ = true;
  owner_.OnFailure(*this, error);
}

}  // namespace shoal::gateway
