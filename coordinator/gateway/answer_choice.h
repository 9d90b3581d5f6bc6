#pragma once

// One sequence of an answer: hears of its tokens and makes pieces of text of them.

#include <optional>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/answer_piece.h"
#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/generation_plan.h"
#include "coordinator/gateway/stop_matcher.h"

namespace shoal::gateway {

class AnswerChoice;

// Called from inside the generation service's calls.
class AnswerOwner {
 public:
  virtual ~AnswerOwner() = default;
  // `piece.finish` says whether it is the choice's last. With `stopped_early` the sequence still
  // runs and is to be cancelled.
  virtual void OnPiece(AnswerChoice& choice, AnswerPiece piece, bool stopped_early) = 0;
  virtual void OnFailure(AnswerChoice& choice, const ApiError& error) = 0;
};

// Threading: owned by the event loop. What it makes of the tokens does not depend on how they were
// split over updates.
class AnswerChoice : public core::StreamListener {
 public:
  AnswerChoice(int64_t index, const ApiRequest& request, PromptPlan plan,
               const text::Tokenizer* tokenizer, AnswerOwner& owner);

  int64_t index() const { return index_; }
  const PromptPlan& plan() const { return plan_; }
  bool finished() const { return finished_; }
  void set_finished() { finished_ = true; }
  // The first piece of a request that generates nothing: the echoed prompt.
  AnswerPiece EchoOnly();

  void OnTokens(const SequenceUpdate& update) override;
  void OnFinish(const SequenceUpdate& update) override;
  void OnError(const core::StreamError& error) override;

  std::optional<core::StreamId> stream;  // Of the generation service, once taken.

 private:
  bool Consume(const SequenceUpdate& update, AnswerPiece& piece);
  void BeginPiece(std::vector<TokenLogprobs> prompt_logprobs, AnswerPiece& piece);
  void AddText(std::string text, AnswerPiece& piece);
  void AddToken(int32_t id, AnswerPiece& piece);
  bool IsPromised() const;
  bool IsStopId(int32_t id) const;
  // False, with the failure reported, if the arrays do not fit each other.
  bool CheckUpdate(const SequenceUpdate& update);
  void Fail(const ApiError& error);

  const int64_t index_;
  const bool echo_;
  const bool return_token_ids_;
  const PromptPlan plan_;
  const text::Tokenizer* tokenizer_;
  AnswerOwner& owner_;
  std::optional<text::StreamDecoder> decoder_;
  StopMatcher matcher_;
  int64_t decoded_code_points_ = 0;  // Of the choice's text, held back or not.
  int64_t generated_count_ = 0;      // Tokens.
  bool begun_ = false;
  bool finished_ = false;
};

}  // namespace shoal::gateway
