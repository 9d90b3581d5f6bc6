#pragma once

// The answer to one completion or chat request while it is being generated, streamed or not.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/gateway/answer_choice.h"
#include "coordinator/gateway/http_exchange.h"
#include "coordinator/gateway/metrics.h"

namespace shoal::gateway {

struct AnswerSetup {
  ApiRequest request;
  std::vector<PromptPlan> prompts;
  AnswerFormat format;
  std::string request_id;
  Headers headers;
  std::string route;
  TimeNs started = 0;
};

// Threading: owned by the event loop. Destroying it cancels what still runs.
class GenerationAnswer : public PendingAnswer, private AnswerOwner {
 public:
  GenerationAnswer(AnswerSetup setup, core::GenerationService& service, HttpReply& reply,
                   GatewayMetrics& metrics, std::function<TimeNs()> now);
  ~GenerationAnswer() override;

  // Submits all sequences, or none. False if there was nothing to generate and the answer is out.
  // Errors: ApiError, as the service refused; 400 for more sequences than it can ever hold at once,
  // because to come back later would not help.
  bool Start();

  // Sends a comment when the stream has been silent for long (serving through proxies).
  void Tick(TimeNs now) override;

 private:
  void OnPiece(AnswerChoice& choice, AnswerPiece piece, bool stopped_early) override;
  void OnFailure(AnswerChoice& choice, const ApiError& error) override;

  void RefuseTooMany();
  void StartStream();
  void SendEvents(const std::string& events);
  void Observe(size_t tokens);
  void FinishIfComplete();
  void Finish(int status);
  void CancelAll();
  HttpResponse Head() const;

  const AnswerSetup setup_;
  core::GenerationService& service_;
  HttpReply& reply_;
  GatewayMetrics& metrics_;
  const std::function<TimeNs()> now_;
  std::vector<std::unique_ptr<AnswerChoice>> choices_;
  std::vector<AnswerPiece> answers_;  // Unstreamed: what has come of each choice.
  Usage usage_;
  size_t finished_count_ = 0;
  bool streaming_ = false;  // The status line is out.
  bool done_ = false;
  TimeNs last_sent_ = 0;
  TimeNs last_token_ = 0;  // 0: none yet.
};

}  // namespace shoal::gateway
