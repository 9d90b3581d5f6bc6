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

GenerationAnswer::GenerationAnswer(AnswerSetup setup, core::GenerationService& service,
                                   HttpReply& reply, TextThread& formatter, GatewayMetrics& metrics,
                                   std::function<TimeNs()> now)
    : setup_(std::move(setup)),
      format_(std::make_shared<const AnswerFormat>(setup_.format)),
      service_(service),
      reply_(reply),
      formatter_(formatter),
      metrics_(metrics),
      now_(std::move(now)),
      waiting_(setup_.prompts.size() * static_cast<size_t>(setup_.request.answers_per_prompt)),
      last_sent_(setup_.started) {
  int64_t index = 0;
  for (const PromptPlan& prompt : setup_.prompts) {
    usage_.prompt_tokens += static_cast<int64_t>(prompt.ids.size());
    for (int32_t answer = 0; answer < setup_.request.answers_per_prompt; ++answer) {
      PromptPlan plan = prompt;
      plan.params.sampling.choice = static_cast<uint32_t>(answer);
      choices_.push_back(std::make_unique<AnswerChoice>(index++, setup_.request, std::move(plan),
                                                        setup_.format.tokenizer,
                                                        static_cast<AnswerOwner&>(*this)));
    }
  }
}

GenerationAnswer::~GenerationAnswer() noexcept {
  if (done_) return;
  CancelAll();
  ++metrics_.cancelled;
  metrics_.CountRequest(setup_.route, 499);
  VLOG(1) << setup_.request_id << ": the client hung up";
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

bool GenerationAnswer::Start() {
  RefuseTooMany();
  for (auto& choice : choices_) {
    const GenerationParams& params = choice->plan().params;
    if (IsEchoOnly(params)) {
      choice->EchoOnly();
      continue;
    }
    const auto outcome = service_.Submit(
        {choice->plan().ids, params, setup_.model.name, setup_.model.numerics_id}, *choice);
    if (const auto* refusal = std::get_if<StreamError>(&outcome)) {
      CancelAll();
      done_ = true;
      throw FromStreamError(*refusal);
    }
    choice->stream = std::get<core::StreamId>(outcome);
  }
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
  if (stopped_early) service_.Cancel(*choice.stream);
  Observe(piece.tokens.size() - piece.echoed_count);
  // A prompt is counted once, as its first answer met it: the others find that one's blocks.
  if (choice.plan().params.sampling.choice == 0) usage_.cached_tokens += piece.cached_tokens;
  if (setup_.request.continuous_usage) piece.usage = usage_;
  if (piece.finish != FinishReason::kNone) ++finished_count_;
  waiting_.Push(static_cast<size_t>(choice.index()), std::move(piece));
  Write();
}

void GenerationAnswer::OnFailure(AnswerChoice& choice, const ApiError& error) {
  if (done_ || failure_) return;
  // Every choice of a request is part of one answer: without one of them there is none. The failed
  // sequence itself has ended, or answers nonsense.
  service_.Cancel(*choice.stream);
  CancelAll();
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
    const auto [choice, piece] = waiting_.Pop();
    SendEvents(FormatEvents(*format_, static_cast<int64_t>(choice), piece));
  }
  EndEvents();
}

void GenerationAnswer::EndEvents() {
  if (failure_) return SendFailure();
  if (!complete()) return;
  if (format_->include_usage) SendEvents(FormatUsageEvent(*format_, usage_));
  SendEvents("data: [DONE]\n\n");
  reply_.EndStream();
  Finish(200);
}

void GenerationAnswer::WriteBody() {
  if (failure_) return SendFailure();
  if (!complete()) return;
  if (body_ == nullptr) {
    const bool is_short = waiting_.json_bytes() <= kLoopBytes;
    body_ = std::make_shared<AnswerBody>(format_, waiting_.TakeAll(), usage_);
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
  auto next = std::make_shared<std::pair<size_t, AnswerPiece>>(waiting_.Pop());
  return [next, format = format_] {
    return FormatEvents(*format, static_cast<int64_t>(next->first), next->second);
  };
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
  reply_.Stream("data: [DONE]\n\n");
  reply_.EndStream();
  Finish(200);
}

void GenerationAnswer::Finish(int status) {
  done_ = true;
  metrics_.CountRequest(setup_.route, status);
  metrics_.request_seconds.Observe(Seconds(now_() - setup_.started));
}

void GenerationAnswer::CancelAll() {
  for (auto& choice : choices_) {
    if (!choice->finished() && choice->stream) service_.Cancel(*choice->stream);
    choice->set_finished();
  }
}

}  // namespace shoal::gateway
