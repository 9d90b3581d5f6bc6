#include "coordinator/gateway/answer/generation_answer.h"

// The status line waits for the first token or the first keep-alive: until then a failure is still
// a plain HTTP error. Afterwards it goes in band.

#include <glog/logging.h>

#include <algorithm>
#include <variant>

namespace shoal::gateway {
namespace {

constexpr TimeNs kKeepAliveNs = 10 * kSecondNs;
// About how much JSON is made in the loop's own thread: some hundred microseconds.
constexpr size_t kLoopBytes = 16 * 1024;

double Seconds(TimeNs ns) { return static_cast<double>(ns) / static_cast<double>(kSecondNs); }

// Nothing is to be computed.
bool IsEchoOnly(const GenerationParams& params) {
  return params.tokens_max == 0 && !params.prompt_logprobs;
}

}  // namespace

void SetCallForm(AnswerSetup& setup) {
  setup.format.short_call_ids = setup.prompts.front().syntax.tools == text::ToolFormat::kMistral;
  setup.format.legacy_calls = setup.request.tools.legacy;
}

GenerationAnswer::GenerationAnswer(AnswerSetup setup, core::GenerationService& service,
                                   HttpReply& reply, TextThread& formatter, GatewayMetrics& metrics,
                                   LiveAnswers& live, std::function<TimeNs()> now)
    : setup_(std::move(setup)),
      format_(std::make_shared<const AnswerFormat>(setup_.format)),
      service_(service),
      reply_(reply),
      formatter_(formatter),
      metrics_(metrics),
      now_(std::move(now)),
      waiting_(setup_.prompts.size() * static_cast<size_t>(setup_.request.answers_per_prompt)),
      live_(live),
      cursor_(setup_.cursor),
      streaming_(setup_.head_sent),
      last_sent_(setup_.started) {
  int64_t index = 0;
  for (const PromptPlan& prompt : setup_.prompts) {
    usage_.prompt_tokens += static_cast<int64_t>(prompt.ids.size());
    for (int32_t answer = 0; answer < setup_.request.answers_per_prompt; ++answer) {
      PromptPlan plan = prompt;
      plan.params.sampling.choice = static_cast<uint32_t>(answer);
      const ChoicePosition known =
          resumable() ? cursor_.choices[static_cast<size_t>(index)] : ChoicePosition();
      choices_.push_back(std::make_unique<AnswerChoice>(index++, setup_.request, std::move(plan),
                                                        setup_.format.tokenizer,
                                                        static_cast<AnswerOwner&>(*this), known));
    }
  }
}

GenerationAnswer::~GenerationAnswer() noexcept {
  if (!done_) {
    HangUp();
    VLOG(1) << setup_.request_id << ": the client hung up";
  }
  const auto entry = live_.find(setup_.answer);
  if (entry != live_.end() && entry->second == this) live_.erase(entry);
}

void GenerationAnswer::HangUp() {
  resumable() ? DetachAll() : CancelAll();
  done_ = true;
  ++metrics_.cancelled;
  metrics_.CountRequest(setup_.route, 499);
}

void GenerationAnswer::GiveUp() {
  if (done_) return;
  DetachAll();
  formatting_ = nullptr;
  failure_ = FromStreamError(MakeStreamError(
      BusyReason::kStreamTaken,
      "another client goes on with this answer by its cursor: this connection gets no more of it"));
  VLOG(1) << setup_.request_id << ": another client goes on with the answer";
  SendFailure();
}

void GenerationAnswer::RefuseTooMany() {
  const auto needed = std::count_if(choices_.begin(), choices_.end(), [](const auto& choice) {
    return !IsEchoOnly(choice->plan().params);
  });
  const int64_t most = setup_.model.requests_max;
  if (most == 0 || needed <= most) return;
  done_ = true;
  throw ApiError(setup_.prompts.size() > 1 ? "prompt" : "n",
                 Str("prompts times n are ", needed, " sequences, and this server holds ", most,
                     " at once: split the request"),
                 "too_large");
}

// What the end of the answer tells of a choice that the client has all of.
void GenerationAnswer::TakeKnownEnd(const AnswerChoice& choice) {
  const ChoicePosition& end = choice.end();
  ++finished_count_;
  usage_.completion_tokens += end.completion_tokens;
  if (choice.plan().params.sampling.choice == 0) usage_.cached_tokens += end.cached_tokens;
  resumes_ += end.resumes;
}

void GenerationAnswer::Submit(AnswerChoice& choice) {
  const double temperature = choice.plan().params.sampling.temperature;
  core::Request request = {.prompt = choice.plan().ids,
                           .params = choice.plan().params,
                           .model = setup_.model.name,
                           .numerics_id = setup_.model.numerics_id,
                           .resumable = resumable(),
                           .shares = setup_.request.seeded || temperature == 0,
                           .stream = setup_.answer,
                           .terms = setup_.terms};
  request.stream->low += static_cast<uint64_t>(choice.index());
  const StreamError* refusal = nullptr;
  std::variant<core::StreamId, StreamError> submitted;
  std::variant<core::GenerationService::Resumed, StreamError> resumed;
  if (setup_.resumed) {
    choice.stream = *request.stream;
    resumed = service_.Resume(std::move(request), choice);
    refusal = std::get_if<StreamError>(&resumed);
    if (refusal == nullptr) {
      cursor_.recomputing |= std::get<core::GenerationService::Resumed>(resumed).recomputing;
    }
  } else {
    submitted = service_.Submit(std::move(request), choice);
    refusal = std::get_if<StreamError>(&submitted);
    if (refusal == nullptr) choice.stream = std::get<core::StreamId>(submitted);
  }
  if (refusal == nullptr) return;
  choice.stream.reset();
  // Of an answer that begins, the client has no cursor yet.
  setup_.resumed ? DetachAll() : CancelAll();
  done_ = true;
  throw FromStreamError(*refusal);
}

bool GenerationAnswer::Start() {
  RefuseTooMany();
  const bool was_recomputing = std::exchange(cursor_.recomputing, false);
  for (auto& choice : choices_) {
    if (choice->finished()) {
      TakeKnownEnd(*choice);
    } else if (!IsEchoOnly(choice->plan().params)) {
      Submit(*choice);
    }
  }
  if (resumable()) live_[setup_.answer] = this;
  const bool recomputes = cursor_.recomputing;
  cursor_.recomputing |= was_recomputing;
  if (recomputes) SendEvents(CursorLine() + FormatRecomputingEvent(*format_));
  for (auto& choice : choices_) {
    if (!choice->finished() && IsEchoOnly(choice->plan().params)) choice->EchoOnly();
  }
  if (complete()) Write();
  metrics_.prompt_tokens += static_cast<uint64_t>(usage_.prompt_tokens);
  return !done_;
}

void GenerationAnswer::Tick(TimeNs now) {
  Write();  // There may have been too much to format before.
  const bool silent = waiting_.empty() && !is_formatting_ && reply_.HasRoom();
  if (done_ || !setup_.request.stream || !silent || now - last_sent_ < kKeepAliveNs) return;
  SendEvents(": keep-alive\n\n");
}

HttpResponse GenerationAnswer::Head() const {
  HttpResponse head;
  head.headers = setup_.headers;
  return head;
}

void GenerationAnswer::StartEvents() {
  streaming_ = true;
  HttpResponse head = Head();
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers.emplace_back("Cache-Control", "no-cache");
  head.headers.emplace_back("X-Accel-Buffering", "no");  // nginx passes events on at once.
  reply_.StartStream(std::move(head));
}

void GenerationAnswer::SendEvents(const std::string& events) {
  if (events.empty()) return;
  if (!streaming_) StartEvents();
  reply_.Stream(events);
  last_sent_ = now_();
}

void GenerationAnswer::Observe(size_t tokens) {
  if (tokens == 0) return;
  const TimeNs now = now_();
  if (last_token_ == 0) {
    metrics_.first_token_seconds.Observe(Seconds(now - setup_.started));
  } else if (choices_.size() == 1) {
    metrics_.between_tokens_seconds.Observe(Seconds(now - last_token_) /
                                            static_cast<double>(tokens));
  }
  last_token_ = now;
  metrics_.generated_tokens += tokens;
  usage_.completion_tokens += static_cast<int64_t>(tokens);
}

void GenerationAnswer::OnPiece(AnswerChoice& choice, AnswerPiece piece, bool stopped_early) {
  if (done_ || failure_) return;
  heard_ = true;
  if (setup_.on_piece) setup_.on_piece(static_cast<size_t>(choice.index()), piece);
  if (stopped_early) service_.Cancel(*choice.stream);
  Observe(piece.tokens.size() - piece.echoed_count);
  usage_.completion_tokens += piece.known_tokens;
  // A prompt is counted once, as its first answer met it: the others find that one's blocks.
  if (choice.plan().params.sampling.choice == 0) usage_.cached_tokens += piece.cached_tokens;
  if (setup_.request.continuous_usage) piece.usage = usage_;
  if (piece.finish != FinishReason::kNone) {
    ++finished_count_;
    resumes_ += choice.end().resumes;
  }
  waiting_.Push(static_cast<size_t>(choice.index()), std::move(piece));
  Write();
}

void GenerationAnswer::OnFailure(AnswerChoice& choice, const ApiError& error) {
  if (done_ || failure_) return;
  if (error.code == ToString(BusyReason::kStreamTaken)) return GiveUp();
  // Every choice of a request is part of one answer: without one of them there is none, unless it
  // can be gone on with elsewhere. The failed sequence itself has ended, or answers nonsense.
  if (choice.stream) service_.Cancel(*choice.stream);
  if (!heard_ && setup_.on_lost && setup_.on_lost(error)) {
    CancelAll();
    done_ = true;
    return;
  }
  resumable() && error.retry_after_ms >= 0 ? DetachAll() : CancelAll();
  LOG(WARNING) << setup_.request_id << ": " << error.what();
  failure_ = error;
  Write();
}

void GenerationAnswer::Write() {
  if (done_ || is_formatting_) return;
  setup_.request.stream ? WriteEvents() : WriteBody();
}

void GenerationAnswer::WriteEvents() {
  while (!waiting_.empty()) {
    if (!reply_.HasRoom()) return;
    if (waiting_.json_bytes() > kLoopBytes) return StartFormatting();
    SendEvents(TakePiece()());
  }
  EndEvents();
}

std::function<std::string()> GenerationAnswer::TakePiece() {
  auto next = std::make_shared<std::pair<size_t, AnswerPiece>>(waiting_.Pop());
  auto& [index, piece] = *next;
  const bool is_last = complete() && waiting_.empty() && !format_->include_usage;
  if (is_last) piece.note = Note();
  EventId id;
  if (resumable()) {
    const ChoicePosition end = choices_[index]->end();
    id = [codec = setup_.cursors, at = cursor_, index, end](int64_t units, bool ended) mutable {
      at.choices[index] = ended ? end : ChoicePosition{.units = units};
      return Str("id: ", codec->Encode(at), "\n");
    };
    ChoicePosition& written = cursor_.choices[index];
    written = piece.finish != FinishReason::kNone ? end : ChoicePosition{.units = piece.units_end};
  }
  return [next, format = format_, id = std::move(id)] {
    return FormatEvents(*format, static_cast<int64_t>(next->first), next->second, id);
  };
}

std::string GenerationAnswer::CursorLine() const {
  return resumable() ? Str("id: ", setup_.cursors->Encode(cursor_), "\n") : "";
}

std::optional<AnswerNote> GenerationAnswer::Note() const {
  if (resumes_ == 0 && !cursor_.recomputing) return std::nullopt;
  return AnswerNote{resumes_, cursor_.recomputing};
}

void GenerationAnswer::EndEvents() {
  if (done_) return;
  if (failure_) return SendFailure();
  if (!complete()) return;
  const bool shows_usage = format_->include_usage && !cursor_.usage_written;
  cursor_.usage_written = true;
  if (shows_usage) SendEvents(CursorLine() + FormatUsageEvent(*format_, usage_, Note()));
  cursor_.done = true;
  SendEvents(CursorLine() + "data: [DONE]\n\n");
  reply_.EndStream();
  Finish(200);
}

void GenerationAnswer::WriteBody() {
  if (failure_) return SendFailure();
  if (!complete()) return;
  if (body_ == nullptr) {
    const bool is_short = waiting_.json_bytes() <= kLoopBytes;
    body_ = std::make_shared<AnswerBody>(format_, waiting_.TakeAll(), usage_, Note());
    HttpResponse response = Head();
    if (is_short) {
      for (std::string text = body_->Next(); !text.empty(); text = body_->Next()) {
        response.body += text;
      }
      reply_.Send(std::move(response));
      return Finish(200);
    }
    streaming_ = true;
    reply_.StartStream(std::move(response));
  }
  StartFormatting();
}

void GenerationAnswer::StartFormatting() {
  is_formatting_ = true;
  formatting_ = FormatLoop().eagerlyEvaluate([this](kj::Exception&& error) {
    LOG(ERROR) << setup_.request_id << ": " << error.getDescription().cStr();
    CancelAll();
    reply_.Abort();
  });
}

// One piece at a time, while the client takes them.
kj::Promise<void> GenerationAnswer::FormatLoop() {
  std::function<std::string()> formatting = NextFormatting();
  if (!formatting) {
    is_formatting_ = false;
    if (setup_.request.stream && waiting_.empty()) EndEvents();
    return kj::READY_NOW;
  }
  return formatter_.Run(std::move(formatting)).then([this](kj::Own<Outcome<std::string>>&& text) {
    SendFormatted(text->Take());
    return FormatLoop();
  });
}

std::function<std::string()> GenerationAnswer::NextFormatting() {
  if (done_ || !reply_.HasRoom() || formatter_.full()) return nullptr;
  if (body_ != nullptr) return [body = body_] { return body->Next(); };
  if (waiting_.empty()) return nullptr;
  return TakePiece();
}

void GenerationAnswer::SendFormatted(const std::string& text) {
  if (body_ == nullptr) return SendEvents(text);
  reply_.Stream(text);
  if (!text.empty()) return;
  reply_.EndStream();
  Finish(200);
}

void GenerationAnswer::SendFailure() {
  if (!streaming_) {
    HttpResponse response = ErrorResponse(*failure_, setup_.request_id);
    response.headers.insert(response.headers.end(), setup_.headers.begin(), setup_.headers.end());
    reply_.Send(std::move(response));
    return Finish(failure_->status);
  }
  reply_.Stream("data: {\"error\":" + ErrorObject(*failure_, setup_.request_id) + "}\n\n");
  // Of an answer that goes on elsewhere this is not the end.
  if (failure_->code != ToString(BusyReason::kStreamTaken)) reply_.Stream("data: [DONE]\n\n");
  reply_.EndStream();
  Finish(200);
}

void GenerationAnswer::Finish(int status) {
  done_ = true;
  metrics_.CountRequest(setup_.route, status);
  metrics_.request_seconds.Observe(Seconds(now_() - setup_.started));
}

void GenerationAnswer::DetachAll() {
  for (auto& choice : choices_) {
    if (!choice->finished() && choice->stream) service_.Detach(*choice->stream);
    choice->set_finished();
  }
}

void GenerationAnswer::CancelAll() {
  for (auto& choice : choices_) {
    if (!choice->finished() && choice->stream) service_.Cancel(*choice->stream);
    choice->set_finished();
  }
}

}  // namespace shoal::gateway
