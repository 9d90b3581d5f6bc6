#include "transport/rpc/client.h"

#include <kj/async-io.h>
#include <kj/timer.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "transport/rpc/connection.h"
#include "transport/rpc/convert/convert.h"
#include "transport/rpc/convert/error_map.h"

namespace shoal::rpc {

namespace {

// Between two attempts to go on.
constexpr int64_t kPauseMinMs = 50;
constexpr int64_t kPauseMaxMs = 500;

// Also of a reason that this build does not know: then to be tried again.
Error ReadError(wire::Busy::Reader from) {
  const std::string reason = ToString(from.getReason());
  const auto is = [&](BusyReason known) { return reason == ToString(known); };
  auto code = ErrorCode::kOverloaded;
  if (is(BusyReason::kTooLarge) || is(BusyReason::kInvalid)) code = ErrorCode::kInvalidArgument;
  for (const BusyReason given_up :
       {BusyReason::kGroupLost, BusyReason::kRefused, BusyReason::kRequestSuspect,
        BusyReason::kCursorInvalid, BusyReason::kCursorMismatch, BusyReason::kCursorExpired,
        BusyReason::kStreamTaken}) {
    if (is(given_up)) code = ErrorCode::kPeerFailed;
  }
  if (is(BusyReason::kDeadlineExceeded)) code = ErrorCode::kDeadlineExceeded;
  return Error(code, Str(reason, ": ", ToString(from.getMessage())));
}

// What a generation's sink has heard, for the thread that waits in Generate. Outlives the sink.
struct Inbox {
  std::vector<GenerateChunk> chunks;
  std::optional<Error> failure;
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
  explicit Impl(const ClientOptions& options) : io_(kj::setupAsyncIo()), options_(options) {
    CheckAddress(options.address);
    Connect();
  }

  GenerateResult Generate(const GenerateRequest& request,
                          const std::function<bool(const GenerateChunk&)>& on_chunk,
                          int64_t idle_timeout_ms) {
    Attempt attempt{request, on_chunk, idle_timeout_ms, {}};
    attempt.request.resumable = options_.resume_timeout_ms > 0;
    try {
      Translate([&] { Run(attempt); });
    } catch (const Error& error) {
      if (!MayGoOn(error) || attempt.request.cursor.empty()) throw;
      GoOn(attempt, error);
    }
    return attempt.result;
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
    GenerateResult result{};
  };

  void Connect() {
    coordinator_ = nullptr;
    connection_.reset();
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

  // The coordinator is gone, or stops, or is not ready yet.
  static bool MayGoOn(const Error& error) {
    return error.code() == ErrorCode::kPeerLost || error.code() == ErrorCode::kOverloaded;
  }

  // Until the generation ends, or the time since it last got on is over.
  void GoOn(Attempt& attempt, Error last) {
    const SteadyClock clock;
    Deadline deadline = Deadline::After(clock, options_.resume_timeout_ms);
    int64_t pause_ms = kPauseMinMs;
    while (!deadline.Passed(clock)) {
      io_.provider->getTimer().atTime(FromNow(pause_ms)).wait(io_.waitScope);
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
      if (inbox.failure) throw Error(*inbox.failure);
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
};

Client::Client(const ClientOptions& options) : impl_(std::make_unique<Impl>(options)) {}

Client::~Client() = default;

GenerateResult Client::Generate(const GenerateRequest& request,
                                const std::function<bool(const GenerateChunk&)>& on_chunk,
                                int64_t idle_timeout_ms) {
  return impl_->Generate(request, on_chunk, idle_timeout_ms);
}

std::vector<ServedModel> Client::Models() { return impl_->Models(); }

RegionStatus Client::Status() { return impl_->Status(); }

RecordPage Client::Records(RecordQuery query) { return impl_->Records(std::move(query)); }

void Client::Drain(uint64_t group, bool restart, const std::string& group_token) {
  impl_->Drain(group, restart, group_token);
}

}  // namespace shoal::rpc
