#include "transport/rpc/client.h"

#include <kj/async-io.h>
#include <kj/timer.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>

#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "transport/client/retry_guard.h"
#include "transport/rpc/connection.h"
#include "transport/rpc/convert/convert.h"
#include "transport/rpc/convert/error_map.h"

namespace shoal::rpc {

namespace {

// Between two attempts to go on.
constexpr int64_t kPauseMinMs = 50;
constexpr int64_t kPauseMaxMs = 500;

// What the answer to a request whose time is over may take to come.
constexpr int64_t kDeadlineGraceMs = 1'000;

// Also of a reason that this build does not know: then to be tried again.
BusyError ReadError(wire::Busy::Reader from) {
  const std::string reason = ToString(from.getReason());
  const auto is = [&](BusyReason known) { return reason == ToString(known); };
  auto code = ErrorCode::kOverloaded;
  if (is(BusyReason::kTooLarge) || is(BusyReason::kInvalid)) code = ErrorCode::kInvalidArgument;
  if (is(BusyReason::kDeadlineExceeded)) code = ErrorCode::kDeadlineExceeded;
  for (const BusyReason given_up :
       {BusyReason::kGroupLost, BusyReason::kRefused, BusyReason::kRequestSuspect,
        BusyReason::kCursorInvalid, BusyReason::kCursorMismatch, BusyReason::kCursorExpired,
        BusyReason::kStreamTaken}) {
    if (is(given_up)) code = ErrorCode::kPeerFailed;
  }
  BusyError error(code, Str(reason, ": ", ToString(from.getMessage())), reason);
  error.retry_after_ms = from.getRetryAfterMs();
  error.predicted_wait_ms = from.getPredictedWaitMs();
  return error;
}

// As the retry policy sees it.
client::Failure FailureOf(const Error& error, bool begun) {
  client::Failure failure{.begun = begun};
  switch (error.code()) {
    case ErrorCode::kPeerLost:
    case ErrorCode::kCannotJoin:
      break;
    case ErrorCode::kOverloaded:
      failure.status = 503;
      break;
    case ErrorCode::kDeadlineExceeded:
      failure.timed_out = true;
      break;
    default:
      failure.status = 400;
      break;
  }
  const auto* const said = dynamic_cast<const BusyError*>(&error);
  if (said == nullptr) return failure;
  failure.code = said->reason;
  failure.retry_after_ms = said->retry_after_ms;
  failure.predicted_wait_ms = said->predicted_wait_ms;
  if (said->reason == ToString(BusyReason::kQuotaExceeded)) failure.status = 429;
  if (said->reason == ToString(BusyReason::kGroupLost)) failure.status = 503;
  if (said->reason == client::RetryGuard::Throttled().code) failure.retry_after_ms = -1;
  return failure;
}

// What a generation's sink has heard, for the thread that waits in Generate. Outlives the sink.
struct Inbox {
  std::vector<GenerateChunk> chunks;
  std::optional<BusyError> failure;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> waiter;

  void Wake() {
    KJ_IF_MAYBE (fulfiller, waiter) {
      (*fulfiller)->fulfill();
    }
    waiter = nullptr;
  }
};

class Sink : public wire::TokenSink::Server {
 public:
  explicit Sink(std::shared_ptr<Inbox> inbox) : inbox_(std::move(inbox)) {}

  kj::Promise<void> tokens(TokensContext context) override {
    return Take(context.getParams().getUpdate(), context.getParams().getText());
  }
  kj::Promise<void> finish(FinishContext context) override {
    return Take(context.getParams().getUpdate(), context.getParams().getText());
  }
  kj::Promise<void> fail(FailContext context) override {
    inbox_->failure = ReadError(context.getParams().getError());
    inbox_->Wake();
    return kj::READY_NOW;
  }

 private:
  kj::Promise<void> Take(wire::SequenceUpdate::Reader update, ::capnp::Text::Reader text) {
    return TranslateErrors([&] {
      inbox_->chunks.push_back({shoal::rpc::Read(update), ToString(text)});
      inbox_->Wake();
      return kj::Promise<void>(kj::READY_NOW);
    });
  }

  // Shared with Generate, which may return before the server has let go of the sink.
  std::shared_ptr<Inbox> inbox_;
};

}  // namespace

class Client::Impl {
 public:
  using Guard = client::RetryGuard;

  explicit Impl(const ClientOptions& options)
      : Impl(options, std::make_shared<Guard>(options.retry, options.retry_draw)) {}

  // `guard`: that of another one, whose requests and its own count together.
  Impl(const ClientOptions& options, std::shared_ptr<Guard> guard)
      : io_(kj::setupAsyncIo()), options_(options), guard_(std::move(guard)) {
    CheckAddress(options.address);
    Connect();
  }

  const ClientOptions& options() const { return options_; }
  const std::shared_ptr<Guard>& guard() const { return guard_; }

  GenerateResult Generate(const GenerateRequest& request,
                          const std::function<bool(const GenerateChunk&)>& on_chunk,
                          int64_t idle_timeout_ms) {
    const SteadyClock clock;
    const TimeNs begun_at = clock.now();
    client::RetryState state{.deadline_ms = request.terms.deadline_ms};
    while (true) {
      Attempt attempt{request, on_chunk, idle_timeout_ms, begun_at, request.terms.deadline_ms};
      attempt.request.resumable = options_.resume_timeout_ms > 0;
      attempt.request.terms.attempt =
          std::min(kAttemptMax, request.terms.attempt + state.attempt - 1);
      attempt.result.attempts = state.attempt;
      try {
        Ask(attempt, state.attempt);
        return attempt.result;
      } catch (Error& error) {  // Passed on, unless it can be made good.
        state.elapsed_ms = (clock.now() - begun_at) / kMillisecondNs;
        const auto decision = guard_->OnFailure(state, FailureOf(error, attempt.heard));
        if (decision.give_up != client::GiveUp::kNone) {
          if (auto* const said = dynamic_cast<BusyError*>(&error)) said->attempts = state.attempt;
          throw;
        }
        if (error.code() == ErrorCode::kPeerLost) Disconnect();
        Pause(decision.wait_ms);
        ++state.attempt;
      }
    }
  }

  std::vector<ServedModel> Models() {
    return Translate([&] {
      auto reply = Await(coordinator_.modelsRequest().send(), options_.connect_timeout_ms);
      std::vector<ServedModel> models;
      for (const auto model : reply.getModels()) models.push_back(shoal::rpc::Read(model));
      return models;
    });
  }

  RegionStatus Status() {
    return Translate([&] {
      auto reply = Await(coordinator_.statusRequest().send(), options_.connect_timeout_ms);
      return shoal::rpc::Read(reply.getStatus());
    });
  }

  RecordPage Records(RecordQuery query) {
    RecordPage all;
    while (true) {
      RecordPage page = Translate([&] {
        auto request = coordinator_.recordsRequest();
        request.setRequest(ToText(query.request));
        request.setSinceMs(query.since_ms);
        request.setAfter(query.after);
        auto reply = Await(request.send(), options_.connect_timeout_ms);
        return shoal::rpc::Read(reply.getPage());
      });
      const bool more = page.more && !page.records.empty();
      if (more) query.after = page.records.back().number;
      std::ranges::move(page.records, std::back_inserter(all.records));
      page.records = std::move(all.records);
      all = std::move(page);
      if (!more) return all;
    }
  }

  void Drain(uint64_t group, bool restart, const std::string& group_token) {
    const std::string refusal = Translate([&] {
      auto request = coordinator_.drainRequest();
      request.setGroup(group);
      request.setRestart(restart);
      request.setGroupToken(
          kj::ArrayPtr<const char>(group_token.data(), group_token.size()).asBytes());
      return ToString(Await(request.send(), options_.connect_timeout_ms).getRefusal());
    });
    if (!refusal.empty()) Throw(ErrorCode::kInvalidArgument, refusal);
  }

 private:
  // A generation, on however many connections. Its request says what has been handed on.
  struct Attempt {
    GenerateRequest request;
    const std::function<bool(const GenerateChunk&)>& on_chunk;
    int64_t idle_timeout_ms = 0;
    TimeNs begun_at = 0;      // The first of the attempts.
    int64_t deadline_ms = 0;  // From then on. 0: none.
    bool heard = false;       // Something of the answer was handed on.
    GenerateResult result{};
  };

  // Once, and on as long as what was begun can be gone on with.
  void Ask(Attempt& attempt, int32_t number) {
    const auto now_ms = [] { return SteadyClock().now() / kMillisecondNs; };
    if (!guard_->MaySend(number, now_ms())) {
      const std::string reason = client::RetryGuard::Throttled().code;
      throw BusyError(ErrorCode::kOverloaded,
                      Str(reason, ": coordinator ", options_.address, " refuses most of what this ",
                          "client asks for, and was not asked: send less, or later"),
                      reason);
    }
    try {
      AskServer(attempt);
    } catch (const Error& error) {
      const client::Failure failure = FailureOf(error, attempt.heard);
      if (attempt.heard || !client::RetryGuard::IsBusy(failure)) guard_->OnAccepted(now_ms());
      throw;
    }
    guard_->OnAccepted(now_ms());
  }

  void AskServer(Attempt& attempt) {
    try {
      Translate([&] { Run(attempt); });
    } catch (const Error& error) {
      if (!MayGoOn(error) || attempt.request.cursor.empty()) throw;
      GoOn(attempt, error);
    }
  }

  void Pause(int64_t milliseconds) {
    io_.provider->getTimer().atTime(FromNow(milliseconds)).wait(io_.waitScope);
  }

  void Disconnect() {
    coordinator_ = nullptr;
    connection_.reset();
  }

  void Connect() {
    Disconnect();
    try {
      connection_.emplace(io_, options_.address, options_.connect_timeout_ms,
                          options_.connect_timeout_ms);
      auto request = connection_->gate().openServiceRequest();
      request.setProtocol(wire::PROTOCOL_VERSION);
      request.setApiKey(options_.api_key);
      auto reply = Await(request.send(), options_.connect_timeout_ms);
      if (reply.hasRefusal()) {
        Throw(ErrorCode::kCannotJoin, "coordinator ", options_.address, ": ",
              ToString(reply.getRefusal()));
      }
      coordinator_ = reply.getCoordinator();
    } catch (const kj::Exception& exception) {  // The RPC boundary.
      connection_.reset();
      Throw(ErrorCode::kCannotJoin, "coordinator ", options_.address, ": ",
            FromKj(exception).what());
    }
  }

  // The coordinator is gone, or stops, or is not ready yet. What else keeps it from going on is
  // for the retry policy, with the pauses that it asks for.
  static bool MayGoOn(const Error& error) {
    if (error.code() == ErrorCode::kPeerLost) return true;
    const auto* const said = dynamic_cast<const BusyError*>(&error);
    return said != nullptr && (said->reason == ToString(BusyReason::kDraining) ||
                               said->reason == ToString(BusyReason::kNoGroup));
  }

  // Until the generation ends, or the time since it last got on is over.
  void GoOn(Attempt& attempt, Error last) {
    const SteadyClock clock;
    Deadline deadline = Deadline::After(clock, options_.resume_timeout_ms);
    int64_t pause_ms = kPauseMinMs;
    while (!deadline.Passed(clock)) {
      Pause(pause_ms);
      pause_ms = std::min(2 * pause_ms, kPauseMaxMs);
      const auto progress = [&] {
        return std::pair(attempt.request.tokens_taken, attempt.request.prompt_logprobs_taken);
      };
      const auto before = progress();
      try {
        Connect();
        return Translate([&] { Run(attempt); });
      } catch (const Error& error) {  // That of the last attempt is the one to be told.
        if (!MayGoOn(error) && error.code() != ErrorCode::kCannotJoin) throw;
        last = error;
      }
      if (progress() == before) continue;
      deadline = Deadline::After(clock, options_.resume_timeout_ms);
      pause_ms = kPauseMinMs;
    }
    Throw(ErrorCode::kPeerLost, "the connection was lost, and could not be made again for ",
          options_.resume_timeout_ms, " ms: ", last.what());
  }

  // On this connection, to its end or the connection's.
  void Run(Attempt& attempt) {
    const auto inbox = std::make_shared<Inbox>();
    RequestTerms& terms = attempt.request.terms;
    if (attempt.deadline_ms > 0) {  // What is left of it; the coordinator says if nothing is.
      const int64_t passed_ms = (SteadyClock().now() - attempt.begun_at) / kMillisecondNs;
      terms.deadline_ms = std::max<int64_t>(1, attempt.deadline_ms - passed_ms);
    }
    auto call = coordinator_.generateRequest();
    Write(attempt.request, call.initRequest());
    const uint64_t bytes = call.totalSize().wordCount * sizeof(::capnp::word);
    if (bytes > kMessageBytesMax / 2) {
      Throw(ErrorCode::kInvalidArgument, "the request takes ", bytes, " bytes, expected at most ",
            kMessageBytesMax / 2, ": send a shorter prompt");
    }
    call.setSink(kj::heap<Sink>(inbox));
    auto reply = Await(call.send(), attempt.idle_timeout_ms);
    const auto outcome = reply.getOutcome();
    if (outcome.isRefused()) throw ReadError(outcome.getRefused());
    const auto accepted = outcome.getAccepted();
    GenerateResult& result = attempt.result;
    if (!attempt.request.cursor.empty()) ++result.reconnects;
    result.recomputed |= accepted.getRecomputing();
    result.prompt_tokens = accepted.getPromptTokens();
    result.seed = accepted.getSeed();
    result.degraded = accepted.getDegraded();
    result.model_used = ToString(accepted.getModelUsed());
    result.rung = accepted.getRung();
    attempt.request.cursor = ToString(accepted.getCursor());
    // Held until this returns: dropping it is what cancels, or says that the reader may come back.
    wire::Generation::Client generation = accepted.getGeneration();
    try {
      Read(attempt, *inbox);
    } catch (const Error& error) {  // Whoever called does not come back.
      CancelResumable(attempt, generation);
      throw;
    }
    if (result.finish == FinishReason::kCancelled) CancelResumable(attempt, generation);
  }

  void Read(Attempt& attempt, Inbox& inbox) {
    GenerateResult& result = attempt.result;
    while (true) {
      for (const GenerateChunk& chunk : std::exchange(inbox.chunks, {})) {
        attempt.heard = true;
        const auto tokens = static_cast<int64_t>(chunk.update.tokens.size());
        attempt.request.tokens_taken += tokens;
        attempt.request.prompt_logprobs_taken +=
            static_cast<int64_t>(chunk.update.prompt_logprobs.size());
        result.completion_tokens += tokens;
        result.finish = chunk.update.finish;
        result.detail = chunk.update.detail;
        result.resumes = chunk.update.resumes;
        if (!attempt.on_chunk(chunk) && result.finish == FinishReason::kNone) {
          result.finish = FinishReason::kCancelled;
        }
        if (result.finish != FinishReason::kNone) return;
      }
      if (inbox.failure) throw BusyError(*inbox.failure);
      auto more = kj::newPromiseAndFulfiller<void>();
      inbox.waiter = kj::mv(more.fulfiller);
      Await(kj::mv(more.promise), attempt.idle_timeout_ms);
    }
  }

  // A coordinator that does not know the call drops the generation after a while.
  void CancelResumable(const Attempt& attempt, wire::Generation::Client& generation) {
    if (!attempt.request.resumable) return;
    try {
      Await(generation.cancelRequest().send().ignoreResult(), kPauseMaxMs);
    } catch (const kj::Exception&) {  // It could not be told.
    } catch (const Error&) {
    }
  }

  // Waits with a deadline, and not longer than the connection lasts.
  template <typename Result>
  Result Await(kj::Promise<Result> promise, int64_t timeout_ms) {
    bool late = false;
    const auto lost = []() -> kj::Promise<Result> {
      return ToKj(Error(ErrorCode::kPeerLost, "the coordinator closed the connection"));
    };
    const auto expired = [&late]() -> kj::Promise<Result> {
      late = true;
      return ToKj(Error(ErrorCode::kDeadlineExceeded, "no answer in time"));
    };
    auto joined =
        promise.exclusiveJoin(connection_->OnDisconnect().then(lost))
            .exclusiveJoin(io_.provider->getTimer().atTime(FromNow(timeout_ms)).then(expired));
    try {
      return joined.wait(io_.waitScope);
    } catch (const kj::Exception&) {  // KJ has no word for a deadline.
      if (!late) throw;
      Throw(ErrorCode::kDeadlineExceeded, "coordinator ", options_.address, ": no answer within ",
            timeout_ms, " ms");
    }
  }

  template <typename Body>
  auto Translate(Body&& body) -> decltype(body()) {
    if (!connection_) Connect();  // An earlier call could not get it back.
    try {
      return body();
    } catch (const kj::Exception& exception) {  // The RPC boundary.
      const Error error = FromKj(exception);
      Throw(error.code(), "coordinator ", options_.address, ": ", error.what());
    }
  }

  kj::AsyncIoContext io_;
  const ClientOptions options_;
  std::optional<DialledConnection> connection_;
  wire::Coordinator::Client coordinator_ = nullptr;
  const std::shared_ptr<Guard> guard_;
};

Client::Client(const ClientOptions& options) : impl_(std::make_unique<Impl>(options)) {}

Client::~Client() = default;

GenerateResult Client::Generate(const GenerateRequest& request,
                                const std::function<bool(const GenerateChunk&)>& on_chunk,
                                int64_t idle_timeout_ms) {
  return impl_->Generate(request, on_chunk, idle_timeout_ms);
}

namespace {

// One request of a batch by a client, which is null as long as there is no connection.
template <typename Connected>
void RunItem(GenerateRequest request, const BatchOptions& options, Deadline deadline,
             Connected&& connected, BatchItem& item) {
  const SteadyClock clock;
  int64_t idle_ms = options.idle_timeout_ms;
  if (options.deadline_ms > 0) {
    const int64_t left_ms = deadline.RemainingMs(clock);
    if (left_ms <= 0) {
      const std::string reason(ToString(BusyReason::kDeadlineExceeded));
      item.error.emplace(ErrorCode::kDeadlineExceeded,
                         Str(reason, ": the batch's ", options.deadline_ms,
                             " ms were over before this request was asked"),
                         reason);
      return;
    }
    int64_t& own_ms = request.terms.deadline_ms;
    own_ms = own_ms > 0 ? std::min(own_ms, left_ms) : left_ms;
    idle_ms = std::min(idle_ms, left_ms + kDeadlineGraceMs);
  }
  try {
    const auto take = [&item](const GenerateChunk& chunk) {
      std::ranges::copy(chunk.update.tokens, std::back_inserter(item.tokens));
      item.text += chunk.text;
      return true;
    };
    item.result = connected().Generate(request, take, idle_ms);
  } catch (const BusyError& error) {  // The item's own, as all that follows.
    item.error = error;
  } catch (const Error& error) {
    item.error.emplace(error.code(), error.what(), "");
  } catch (const std::exception& error) {
    item.error.emplace(ErrorCode::kFailed, error.what(), "");
  }
}

}  // namespace

std::vector<BatchItem> Client::GenerateBatch(const std::vector<GenerateRequest>& requests,
                                             const BatchOptions& options) {
  if (options.concurrency < 1 || options.concurrency > kBatchConcurrencyMax) {
    Throw(ErrorCode::kInvalidArgument, "concurrency: expected 1 to ", kBatchConcurrencyMax,
          ", found ", options.concurrency);
  }
  if (options.deadline_ms < 0) {
    Throw(ErrorCode::kInvalidArgument, "deadline_ms: expected 0 (none) or more, found ",
          options.deadline_ms);
  }
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, options.deadline_ms);
  std::vector<BatchItem> items(requests.size());
  std::atomic<size_t> next = 0;
  // A connection belongs to the thread that makes it, and this thread has one already.
  const auto work = [&] {
    std::unique_ptr<Impl> client;
    const auto connected = [&]() -> Impl& {
      ClientOptions own = impl_->options();
      if (options.deadline_ms > 0) {
        const int64_t left_ms = std::max<int64_t>(1, deadline.RemainingMs(clock));
        own.connect_timeout_ms = std::min(own.connect_timeout_ms, left_ms);
        own.resume_timeout_ms = std::min(own.resume_timeout_ms, left_ms);
      }
      if (client == nullptr) client = std::make_unique<Impl>(own, impl_->guard());
      return *client;
    };
    for (size_t i = next++; i < requests.size(); i = next++) {
      RunItem(requests[i], options, deadline, connected, items[i]);
    }
  };
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < std::min(options.concurrency, requests.size()); ++i) {
    threads.emplace_back(work);
  }
  threads.clear();
  return items;
}

std::vector<ServedModel> Client::Models() { return impl_->Models(); }

RegionStatus Client::Status() { return impl_->Status(); }

RecordPage Client::Records(RecordQuery query) { return impl_->Records(std::move(query)); }

void Client::Drain(uint64_t group, bool restart, const std::string& group_token) {
  impl_->Drain(group, restart, group_token);
}

}  // namespace shoal::rpc
