#pragma once

// One sequence of an answer: hears of its tokens and makes pieces of text of them.

#include <optional>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/answer/answer_piece.h"
#include "coordinator/gateway/answer/generation_plan.h"
#include "coordinator/gateway/answer/stop_matcher.h"
#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/resume/cursor.h"
#include "parallel/text/tools/answer_reader.h"

namespace shoal::gateway {

class AnswerChoice;

// Called from inside the generation service's calls.
class AnswerOwner {
 public:
  virtual ~AnswerOwner() = default;
  // Pieces are of about kPieceBytes at most. `piece.finish` says whether it is the choice's last.
  // With `stopped_early` the sequence still runs and is to be cancelled.
  virtual void OnPiece(AnswerChoice& choice, AnswerPiece piece, bool stopped_early) = 0;
  virtual void OnFailure(AnswerChoice& choice, const ApiError& error) = 0;
};

// Threading: owned by the event loop. What it makes of the tokens does not depend on how they were
// split over updates. So it goes on exactly where the client stopped reading: it hears all tokens
// again, and leaves out what comes of the first ones.
class AnswerChoice : public core::StreamListener {
 public:
  // `known`: what the client has of it. One that has ended hears of nothing.
  AnswerChoice(int64_t index, const ApiRequest& request, PromptPlan plan,
               const text::Tokenizer* tokenizer, AnswerOwner& owner,
               const ChoicePosition& known = {});

  int64_t index() const { return index_; }
  const PromptPlan& plan() const { return plan_; }
  bool finished() const { return finished_; }
  void set_finished() { finished_ = true; }
  // Where it is once all of it is written.
  const ChoicePosition& end() const { return end_; }
  // The answer to a request that generates nothing: the owner hears of the echoed prompt.
  void EchoOnly();

  void OnTokens(const SequenceUpdate& update) override;
  void OnFinish(const SequenceUpdate& update) override;
  void OnError(const StreamError& error) override;

  std::optional<core::StreamId> stream;  // Of the generation service, once taken.

 private:
  bool Consume(const SequenceUpdate& update, AnswerPiece& piece);
  void Begin(AnswerPiece& piece);
  // Up to that byte of the prompt's text.
  void EchoText(size_t end, AnswerPiece& piece);
  // The prompt's next token; null for the first one, which has no log-probability.
  void EchoToken(const TokenLogprobs* logprobs, AnswerPiece& piece);
  // One more unit is in the piece. Leaves the piece empty if the client has it.
  void CountUnit(AnswerPiece& piece);
  void CountUnitAndHandOver(AnswerPiece& piece);
  void HandOver(AnswerPiece& piece, bool stopped_early);
  void HandOverEnd(AnswerPiece& piece, FinishReason finish, bool stopped_early);
  void AddText(std::string text, AnswerPiece& piece);
  void AddToken(int32_t id, AnswerPiece& piece);
  // What the matcher has let go: the result of its last call.
  void AddFreed(std::string text, AnswerPiece& piece);
  void AddParts(text::AnswerParts parts, AnswerPiece& piece);
  // What the reader holds back comes too.
  void EndParts(AnswerPiece& piece);
  bool IsPromised() const;
  bool IsStopId(int32_t id) const;
  void Fail(const ApiError& error);

  const int64_t index_;
  const bool echo_;
  const bool return_token_ids_;
  const PromptPlan plan_;
  const text::Tokenizer* tokenizer_;
  AnswerOwner& owner_;
  const bool shows_stop_;     // Also tokens that end the answer.
  const bool shows_special_;  // Also special tokens.
  std::optional<text::StreamDecoder> decoder_;
  StopMatcher matcher_;
  std::optional<text::AnswerReader> reader_;  // Where the answer's parts are told apart.
  const bool shows_reasoning_;
  const bool calls_once_;            // Later calls are left out.
  int64_t decoded_code_points_ = 0;  // Of the prompt's and the choice's text, held back or not.
  // Of the prompt, as echoed so far:
  std::optional<text::StreamDecoder> echo_decoder_;
  size_t echoed_count_ = 0;       // Tokens.
  size_t echoed_bytes_ = 0;       // Of its text.
  int64_t echo_code_points_ = 0;  // Of those tokens.
  int64_t generated_count_ = 0;   // Tokens.
  const int64_t known_units_;     // AnswerPiece says what a unit is.
  int64_t units_ = 0;             // So far,
  int64_t handed_over_ = 0;       // and of them those in pieces that are gone, or left out.
  int64_t known_tokens_ = 0;      // Of those left out: AnswerPiece::known_tokens of the next piece.
  int64_t cached_tokens_ = 0;     // Likewise.
  ChoicePosition end_;
  bool begun_ = false;
  bool finished_ = false;
};

}  // namespace shoal::gateway
