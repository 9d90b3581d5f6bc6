#include "coordinator/gateway/ladder/ladder_answer.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/ladder/rung_texts.h"
#include "transport/base/check.h"

namespace shoal::gateway {

// Collects an answer that may be given again.
struct LadderAnswer::Recorder {
  Digest request{};
  CachedAnswer answer{};
  size_t left = 0;  // Choices that have not ended.
  bool fits = true;

  // Whether it is complete.
  bool Take(size_t choice, const AnswerPiece& piece) {
    CachedAnswer::Choice& to = answer.choices[choice];
    fits = fits && answer.bytes() + piece.text.size() <= kTextAnswerBytesMax;
    if (fits) to.text += piece.text;
    answer.usage.completion_tokens += std::ssize(piece.tokens);
    if (piece.finish == FinishReason::kNone) return false;
    fits = fits && (piece.finish == FinishReason::kStop || piece.finish == FinishReason::kLength);
    to.finish = piece.finish;
    return --left == 0 && fits;
  }
};

LadderAnswer::LadderAnswer(AnswerSetup setup, LadderHost host)
    : host_(std::move(host)),
      rungs_(host_.ladder.rungs()),
      asked_(std::make_unique<const AnswerSetup>(std::move(setup))),
      terms_(asked_->terms),
      stream_(asked_->answer),
      began_(host_.now()),
      order_(host_.ladder.Order(terms_)),
      tasks_(static_cast<kj::TaskSet::ErrorHandler&>(*this)) {}

LadderAnswer::~LadderAnswer() noexcept {
  if (done_ || answer_ != nullptr) return;  // It counts by itself.
  ++host_.metrics.cancelled;
  host_.metrics.CountRequest(asked_->route, 499);
}

bool LadderAnswer::Start() {
  done_ = true;  // An error that leaves here is the caller's to count.
  done_ = GoOn() == Result::kIsOut;
  return !done_;
}

void LadderAnswer::taskFailed(kj::Exception&& exception) {
  LOG(ERROR) << terms_.name << ": " << exception.getDescription().cStr();
  host_.reply.Abort();
}

void LadderAnswer::Tick(TimeNs now) {
  if (answer_ != nullptr) answer_->Tick(now);
}

void LadderAnswer::OnRoom() {
  if (answer_ != nullptr) answer_->OnRoom();
}

LadderAnswer::Result LadderAnswer::GoOn() {
  while (next_ < order_.size()) {
    const Result result = Try(order_[next_++]);
    if (result != Result::kRefuses) return result;
  }
  SHOAL_CHECK(refusal_.has_value());
  throw *refusal_;
}

void LadderAnswer::GoOnLater() {
  tasks_.add(kj::evalLater([this] {
    if (answer_ != nullptr) head_sent_ = answer_->streaming();
    answer_.reset();
    try {
      done_ = GoOn() == Result::kIsOut;
    } catch (const ApiError& error) {  // Becomes the reply.
      SendRefusal(error);
    }
  }));
}

LadderAnswer::Result LadderAnswer::Try(int32_t rung) {
  if (rung == 0) return TryItself();
  switch (rungs_->rung(rung).kind) {
    case core::RungKind::kModel:
      return TryModel(rung);
    case core::RungKind::kCache:
      return TryCache(rung);
    case core::RungKind::kRules:
    case core::RungKind::kKnowledge:
      return TryText(rung);
  }
  SHOAL_CHECK(false);
}

LadderAnswer::Result LadderAnswer::TryItself() {
  AnswerSetup setup = *asked_;
  const std::optional<Digest> digest =
      host_.ladder.remembers() ? DigestForCache(setup) : std::nullopt;
  if (digest) {
    recorder_ = std::make_shared<Recorder>();
    recorder_->request = *digest;
    recorder_->left = setup.prompts.size() * static_cast<size_t>(setup.request.answers_per_prompt);
    recorder_->answer.choices.resize(recorder_->left);
    for (const PromptPlan& prompt : setup.prompts) {
      recorder_->answer.usage.prompt_tokens += std::ssize(prompt.ids);
    }
  }
  return Generate(0, std::move(setup));
}

LadderAnswer::Result LadderAnswer::Generate(int32_t rung, AnswerSetup setup) {
  setup.head_sent = head_sent_;
  setup.on_lost = [this, rung](const ApiError& error) { return TakeLost(rung, error); };
  setup.on_piece = [this, rung, begun = false](size_t choice, const AnswerPiece& piece) mutable {
    if (!std::exchange(begun, true)) {
      host_.ladder.NoteAnswer(*rungs_, rung, terms_, stream_, reason_);
      asked_.reset();
    }
    if (rung != 0 || recorder_ == nullptr || !recorder_->Take(choice, piece)) return;
    host_.ladder.Remember(terms_.tenant, recorder_->request, std::move(recorder_->answer));
    recorder_.reset();
  };
  answer_ = host_.generate(std::move(setup));
  try {
    return answer_->Start() ? Result::kAnswers : Result::kIsOut;
  } catch (const ApiError& error) {  // Of the model itself it is told, if nothing else answers.
    answer_.reset();
    NoteRefusal(rung, error);
    if (rung == 0 && !reason_) throw;
    return Result::kRefuses;
  }
}

void LadderAnswer::NoteRefusal(int32_t rung, const ApiError& error) {
  const std::optional<BusyReason> reason = rungs_->ReasonOf(error.code);
  if (reason) host_.ladder.NoteRefusal(*rungs_, rung, *reason, terms_);
  if (rung != 0) return;
  refusal_ = error;
  reason_ = reason;
}

bool LadderAnswer::TakeLost(int32_t rung, const ApiError& error) {
  if (!rungs_->ReasonOf(error.code) || next_ == order_.size()) return false;
  if (!refusal_) refusal_ = error;
  NoteRefusal(rung, error);
  GoOnLater();
  return true;
}

void LadderAnswer::Disclose(int32_t rung, const std::string& model, const std::string& source,
                            AnswerSetup& setup) const {
  const std::string_view kind = core::ToString(rungs_->rung(rung).kind);
  setup.format.model = model;
  setup.format.degradation = Degradation{model, rung, std::string(kind), source};
  setup.headers.emplace_back("X-Shoal-Degraded", std::to_string(rung));
}

LadderAnswer::Result LadderAnswer::TryModel(int32_t rung) {
  const std::optional<ModelRung> found = rungs_->FindModel(rung, asked_->model, host_.models());
  if (!found) return Result::kRefuses;  // It is not there, which is no trouble of those that are.
  AnswerSetup setup = *asked_;
  if (setup.terms.deadline_ms > 0) {  // As of when it came; some of it is over.
    const int64_t passed_ms = (host_.now() - began_) / kMillisecondNs;
    if (passed_ms >= setup.terms.deadline_ms) return Result::kRefuses;
    setup.terms.deadline_ms -= passed_ms;
  }
  setup.answer.high += static_cast<uint64_t>(rung);  // A stream of its own.
  Disclose(rung, found->model.name, "", setup);
  setup.format.owner = found->owner;
  TextThread* const thread = host_.threads.For(PromptBytes(setup.request));
  if (thread == nullptr) {
    try {
      setup = MakeRungSetup(std::move(setup), *found);
    } catch (const ApiError& error) {  // Another rung may do.
      VLOG(1) << terms_.name << ": rung " << rung << ": " << error.what();
      return Result::kRefuses;
    }
    return Generate(rung, std::move(setup));
  }
  if (thread->full()) return Result::kRefuses;
  auto made = thread->Run(std::function(
      [setup = std::move(setup), model = *found] { return MakeRungSetup(setup, model); }));
  tasks_.add(made.then([this, rung](kj::Own<Outcome<AnswerSetup>>&& outcome) {
    Result result = Result::kRefuses;
    try {
      result = Generate(rung, outcome->Take());
    } catch (const ApiError& error) {  // Another rung may do.
      VLOG(1) << terms_.name << ": rung " << rung << ": " << error.what();
    }
    done_ = result == Result::kIsOut;
    if (result == Result::kRefuses) GoOnLater();
  }));
  return Result::kAnswers;
}

LadderAnswer::Result LadderAnswer::TryCache(int32_t rung) {
  const std::optional<Digest> digest = DigestForCache(*asked_);
  if (!digest) return Result::kRefuses;
  const CachedAnswer* const cached = host_.ladder.FindCached(terms_.tenant, *digest);
  if (cached == nullptr) return Result::kRefuses;
  SendText(rung, *cached, "an earlier answer to the same request");
  return Result::kAnswers;
}

LadderAnswer::Result LadderAnswer::TryText(int32_t rung) {
  const std::optional<std::string> question = FindQuestion(asked_->request);
  if (!question) return Result::kRefuses;
  const std::optional<TextAnswer> text = rungs_->Ask(rung, *question);
  if (!text) return Result::kRefuses;
  SendText(rung, MakeTextAnswer(*asked_, text->text), text->source);
  return Result::kAnswers;
}

void LadderAnswer::SendText(int32_t rung, CachedAnswer answer, std::string source) {
  host_.ladder.NoteAnswer(*rungs_, rung, terms_, stream_, reason_);
  // A stream must not end inside the call that began it.
  tasks_.add(kj::evalLater([this, rung, answer = std::move(answer), source = std::move(source)] {
    AnswerSetup setup = *asked_;
    Disclose(rung, rungs_->rung(rung).name, source, setup);
    setup.format.fingerprint.clear();
    HttpResponse response;
    response.headers = setup.headers;
    done_ = true;
    host_.metrics.CountRequest(setup.route, 200);
    if (!setup.request.stream) {
      response.body = FormatTextBody(setup.format, answer);
      return host_.reply.Send(std::move(response));
    }
    response.content_type = "text/event-stream; charset=utf-8";
    response.headers.emplace_back("Cache-Control", "no-cache");
    response.headers.emplace_back("X-Accel-Buffering", "no");
    if (!head_sent_) host_.reply.StartStream(std::move(response));
    host_.reply.Stream(FormatTextEvents(setup.format, answer));
    host_.reply.EndStream();
  }));
}

void LadderAnswer::SendRefusal(const ApiError& error) {
  done_ = true;
  const std::string& id = asked_->request_id;
  if (head_sent_) {
    host_.metrics.CountRequest(asked_->route, 200);
    host_.reply.Stream("data: {\"error\":" + ErrorObject(error, id) + "}\n\ndata: [DONE]\n\n");
    return host_.reply.EndStream();
  }
  host_.metrics.CountRequest(asked_->route, error.status);
  HttpResponse response = ErrorResponse(error, id);
  response.headers.insert(response.headers.end(), asked_->headers.begin(), asked_->headers.end());
  host_.reply.Send(std::move(response));
}

}  // namespace shoal::gateway
