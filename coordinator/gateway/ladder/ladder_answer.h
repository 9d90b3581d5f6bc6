#pragma once

// The answer to a request that a lower rung of the ladder may answer.

#include <kj/async.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/gateway/answer/generation_answer.h"
#include "coordinator/gateway/api/metrics.h"
#include "coordinator/gateway/http/http_exchange.h"
#include "coordinator/gateway/ladder/degrader.h"
#include "coordinator/gateway/text/text_thread.h"

namespace shoal::gateway {

// What it is made with; all outlives it.
struct LadderHost {
  Degrader& ladder;
  HttpReply& reply;
  GatewayMetrics& metrics;
  TextThreads& threads;
  std::function<TimeNs()> now;
  std::function<std::vector<ServedModel>()> models;
  std::function<std::unique_ptr<GenerationAnswer>(AnswerSetup)> generate;
};

// Asks the rungs in the ladder's order until one answers. While nothing has come of an answer, its
// failure is answered by the rungs that are left. Threading: owned by the event loop. Destroying it
// stops what still runs.
class LadderAnswer : public PendingAnswer, private kj::TaskSet::ErrorHandler {
 public:
  // The setup is of the model that was asked for, and goes on with no earlier answer.
  LadderAnswer(AnswerSetup setup, LadderHost host);
  ~LadderAnswer() noexcept override;

  // As GenerationAnswer::Start. Errors: ApiError: what the model itself says, if no rung answers.
  bool Start();

  void Tick(TimeNs now) override;
  void OnRoom() override;

 private:
  void taskFailed(kj::Exception&& exception) override;
  enum class Result : uint8_t { kAnswers, kIsOut, kRefuses };
  struct Recorder;

  // The next rungs, until one answers. Errors: as Start.
  Result GoOn();
  void GoOnLater();
  Result Try(int32_t rung);
  Result TryItself();
  Result TryModel(int32_t rung);
  Result TryCache(int32_t rung);
  Result TryText(int32_t rung);
  Result Generate(int32_t rung, AnswerSetup setup);
  void SendText(int32_t rung, CachedAnswer answer, std::string source);
  // It can be answered by nothing else any more.
  void SendRefusal(const ApiError& error);
  bool TakeLost(int32_t rung, const ApiError& error);
  void NoteRefusal(int32_t rung, const ApiError& error);
  // What the answer of a lower rung says of itself.
  void Disclose(int32_t rung, const std::string& model, const std::string& source,
                AnswerSetup& setup) const;

  LadderHost host_;
  const std::shared_ptr<const LadderRungs> rungs_;  // That it began with.
  std::unique_ptr<const AnswerSetup> asked_;        // Until something has come of an answer.
  const RequestTerms terms_;
  const StreamId stream_;
  const TimeNs began_;
  std::vector<int32_t> order_;
  size_t next_ = 0;                   // Of the order.
  std::optional<ApiError> refusal_;   // The model's own.
  std::optional<BusyReason> reason_;  // Likewise.
  std::unique_ptr<GenerationAnswer> answer_;
  std::shared_ptr<Recorder> recorder_;
  bool head_sent_ = false;
  bool done_ = false;
  kj::TaskSet tasks_;  // Last: they use all of the above.
};

}  // namespace shoal::gateway
