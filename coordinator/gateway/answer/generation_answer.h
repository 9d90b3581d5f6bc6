#pragma once

// The answer to one completion or chat request while it is being generated, streamed or not.

#include <kj/async.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/gateway/answer/answer_choice.h"
#include "coordinator/gateway/answer/piece_queue.h"
#include "coordinator/gateway/api/metrics.h"
#include "coordinator/gateway/http/http_exchange.h"
#include "coordinator/gateway/text/text_thread.h"

namespace shoal::gateway {

class GenerationAnswer;

// The answers under way that can be gone on with, so that only the newest connection that asks for
// one has it. Threading: owned by the event loop.
using LiveAnswers = std::map<StreamId, GenerationAnswer*>;

struct AnswerSetup {
  ApiRequest request;
  ServedModel model;
  std::vector<PromptPlan> prompts;
  AnswerFormat format;
  std::string request_id;
  Headers headers;
  std::string route;
  TimeNs started = 0;
  RequestTerms terms{};  // Of each of its sequences, which are charged and counted one by one.
  StreamId answer{};     // The stream of choice k is {high, low + k}.
  // Null: nobody can go on with it.
  std::shared_ptr<const CursorCodec> cursors{};
  Cursor cursor{};         // With `cursors`: where the client is before the first event.
  bool resumed = false;    // It has been at it before.
  bool head_sent = false;  // A stream has begun, with nothing but comments in it.
  // Of who may let something else answer; may be null. Both are called from inside the generation
  // service's calls.
  // An answer of which nothing has come fails: whether somebody takes it from here. Then this one
  // says nothing more.
  std::function<bool(const ApiError&)> on_lost{};
  std::function<void(size_t choice, const AnswerPiece&)> on_piece{};  // Before it is written.
};

// How the format writes calls, by what the request and its prompts say.
void SetCallForm(AnswerSetup& setup);

// Memory:    JSON is made as the client takes it; what comes meanwhile waits as tokens and numbers,
//            and is bounded by the request's own length.
// Threading: owned by the event loop. What is long is formatted by `formatter`, a piece at a time.
//            Destroying it cancels what still runs; an answer that can be gone on with is left
//            running, for the client to come back.
class GenerationAnswer : public PendingAnswer, private AnswerOwner {
 public:
  GenerationAnswer(AnswerSetup setup, core::GenerationService& service, HttpReply& reply,
                   TextThread& formatter, GatewayMetrics& metrics, LiveAnswers& live,
                   std::function<TimeNs()> now);
  ~GenerationAnswer() noexcept override;

  // Submits or resumes all sequences, or none. False if there was nothing to generate and the
  // answer is out. Errors: ApiError, as the service refused; 400 for more sequences than it can
  // ever hold at once, because to come back later would not help.
  bool Start();

  // Another client goes on with it: tells this one so (kStreamTaken), which gets nothing more, and
  // leaves the streams to the other.
  void GiveUp();

  // Whether the status line is out.
  bool streaming() const { return streaming_; }

  // Sends a comment when the stream has been silent for long (serving through proxies).
  void Tick(TimeNs now) override;
  void OnRoom() override { Write(); }

 private:
  void OnPiece(AnswerChoice& choice, AnswerPiece piece, bool stopped_early) override;
  void OnFailure(AnswerChoice& choice, const ApiError& error) override;

  void RefuseTooMany();
  void TakeKnownEnd(const AnswerChoice& choice);
  // Begins the choice, or goes on with it. Errors: ApiError.
  void Submit(AnswerChoice& choice);
  bool resumable() const { return setup_.cursors != nullptr; }
  void HangUp();
  // Writes what waits, as far as the client takes it.
  void Write();
  void WriteEvents();
  void WriteBody();
  void StartFormatting();
  kj::Promise<void> FormatLoop();
  // Makes the next piece of text. Null if there is none, or it must wait.
  std::function<std::string()> NextFormatting();
  void SendFormatted(const std::string& text);
  // Of what waits; from then on cursors count it as written.
  std::function<std::string()> TakePiece();
  std::string CursorLine() const;
  std::optional<AnswerNote> Note() const;
  void StartEvents();
  void SendEvents(const std::string& events);
  // Ends a stream of which all is written.
  void EndEvents();
  void SendFailure();
  void Observe(size_t tokens);
  bool complete() const { return finished_count_ == choices_.size(); }
  void Finish(int status);
  void CancelAll();
  // They go on for who comes back for them.
  void DetachAll();
  HttpResponse Head() const;

  const AnswerSetup setup_;
  const std::shared_ptr<const AnswerFormat> format_;  // Also of what `formatter` is at.
  core::GenerationService& service_;
  HttpReply& reply_;
  TextThread& formatter_;
  GatewayMetrics& metrics_;
  const std::function<TimeNs()> now_;
  std::vector<std::unique_ptr<AnswerChoice>> choices_;
  PieceQueue waiting_;
  std::shared_ptr<AnswerBody> body_;  // Unstreamed, complete, and too long to be written at once.
  std::optional<ApiError> failure_;   // Told to the client after what waits.
  LiveAnswers& live_;
  Cursor cursor_;  // Of what is written.
  int64_t resumes_ = 0;
  Usage usage_;
  size_t finished_count_ = 0;
  bool streaming_ = false;  // The status line is out.
  bool done_ = false;
  bool heard_ = false;  // Something has come.
  TimeNs last_sent_ = 0;
  TimeNs last_token_ = 0;  // 0: none yet.
  bool is_formatting_ = false;
  kj::Promise<void> formatting_ = nullptr;  // Last: it uses all of the above.
};

}  // namespace shoal::gateway
