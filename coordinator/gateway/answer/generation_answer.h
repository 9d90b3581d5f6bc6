#pragma once

// The answer to one completion or chat request while it is being generated, streamed or not.

#include <kj/async.h>

#include <functional>
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

struct AnswerSetup {
  ApiRequest request;
  ServedModel model;
  std::vector<PromptPlan> prompts;
  AnswerFormat format;
  std::string request_id;
  Headers headers;
  std::string route;
  TimeNs started = 0;
};

// Memory:    JSON is made as the client takes it; what comes meanwhile waits as tokens and numbers,
//            and is bounded by the request's own length.
// Threading: owned by the event loop. What is long is formatted by `formatter`, a piece at a time.
//            Destroying it cancels what still runs.
class GenerationAnswer : public PendingAnswer, private AnswerOwner {
 public:
  GenerationAnswer(AnswerSetup setup, core::GenerationService& service, HttpReply& reply,
                   TextThread& formatter, GatewayMetrics& metrics, std::function<TimeNs()> now);
  ~GenerationAnswer() noexcept override;

  // Submits all sequences, or none. False if there was nothing to generate and the answer is out.
  // Errors: ApiError, as the service refused; 400 for more sequences than it can ever hold at once,
  // because to come back later would not help.
  bool Start();

  // Sends a comment when the stream has been silent for long (serving through proxies).
  void Tick(TimeNs now) override;
  void OnRoom() override { Write(); }

 private:
  void OnPiece(AnswerChoice& choice, AnswerPiece piece, bool stopped_early) override;
  void OnFailure(AnswerChoice& choice, const ApiError& error) override;

  void RefuseTooMany();
  // Writes what waits, as far as the client takes it.
  void Write();
  void WriteEvents();
  void WriteBody();
  void StartFormatting();
  kj::Promise<void> FormatLoop();
  // Makes the next piece of text. Null if there is none, or it must wait.
  std::function<std::string()> NextFormatting();
  void SendFormatted(const std::string& text);
  void StartEvents();
  void SendEvents(const std::string& events);
  // Ends a stream of which all is written.
  void EndEvents();
  void SendFailure();
  void Observe(size_t tokens);
  bool complete() const { return finished_count_ == choices_.size(); }
  void Finish(int status);
  void CancelAll();
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
  Usage usage_;
  size_t finished_count_ = 0;
  bool streaming_ = false;  // The status line is out.
  bool done_ = false;
  TimeNs last_sent_ = 0;
  TimeNs last_token_ = 0;  // 0: none yet.
  bool is_formatting_ = false;
  kj::Promise<void> formatting_ = nullptr;  // Last: it uses all of the above.
};

}  // namespace shoal::gateway
