#include "transport/rpc/server/service_port.h"

#include <glog/logging.h>
#include <kj/refcount.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/base/error.h"
#include "transport/rpc/convert/convert.h"
#include "transport/rpc/convert/error_map.h"
#include "transport/rpc/secret.h"
#include "transport/rpc/update_queue.h"

namespace shoal::rpc {

namespace {

// One generation's way out: at most one call is under way, what comes meanwhile is merged, and a
// lot goes out in several calls.
class SinkCaller : public GenerationSink, public kj::Refcounted {
 public:
  SinkCaller(wire::TokenSink::Client sink, UpstreamListener& listener, kj::TaskSet& tasks,
             kj::Timer& timer, int64_t timeout_ms)
      : sink_(kj::mv(sink)),
        listener_(listener),
        tasks_(tasks),
        timer_(timer),
        timeout_(timeout_ms * kj::MILLISECONDS) {}
  ~SinkCaller() noexcept override = default;

  void Tokens(const SequenceUpdate& update, const std::string& text) override {
    if (parts_.empty() || parts_.back().is_full()) parts_.emplace_back();
    parts_.back().updates.Add(update);
    parts_.back().text += text;
    SendNext();
  }

  void Finish(const SequenceUpdate& update, const std::string& text) override {
    ended_ = true;
    Tokens(update, text);
  }

  void Fail(const StreamError& error) override {
    ended_ = true;
    failure_ = error;
    SendNext();
  }

  void Started(uint64_t generation) { generation_ = generation; }

  // The upstream program holds the generation no more.
  void Drop() {
    if (!ended_ && generation_ != 0) listener_.OnReaderGone(generation_);
    ended_ = true;
    dropped_ = true;
  }

  // It wants no more of it.
  void Cancel() {
    if (!ended_ && generation_ != 0) listener_.OnCancel(generation_);
    ended_ = true;
    dropped_ = true;
  }

 private:
  // Goes out in one call, unless what came at once is more than that. So a reader that counts the
  // tokens that it has taken has their text, neither more nor less.
  struct Part {
    UpdateQueue updates;
    std::string text;

    bool is_full() const { return updates.bytes() + text.size() > kUpdateBytesMax / 2; }
  };

  void SendNext() {
    if (sending_ || dropped_ || (parts_.empty() && !failure_)) return;
    sending_ = true;
    tasks_.add(timer_.timeoutAfter(timeout_, SendPending())
                   .then(
                       [this, self = kj::addRef(*this)] {
                         sending_ = false;
                         SendNext();
                       },
                       [this, self = kj::addRef(*this)](kj::Exception&& why) { GiveUp(why); }));
  }

  // Who does not read keeps nothing here. Should it read again it hears nothing more, and gives up
  // by its own time.
  void GiveUp(const kj::Exception& why) {
    VLOG(1) << "generation " << generation_
            << " has no reader any more: " << why.getDescription().cStr();
    Drop();
    parts_.clear();
  }

  kj::Promise<void> SendPending() {
    if (parts_.empty()) {
      auto request = sink_.failRequest();
      Write(*std::exchange(failure_, std::nullopt), request.initError());
      return request.send().ignoreResult();
    }
    Part& part = parts_.front();
    if (part.text.size() > kUpdateBytesMax) return SendTokens({}, TakeLongText(part.text));
    const std::vector<SequenceUpdate> updates = part.updates.Take(kUpdateBytesMax);
    const SequenceUpdate& update = updates.front();
    // The text that tokens complete goes with the last of them.
    std::string text;
    if (part.updates.empty()) {
      text = std::move(part.text);
      parts_.pop_front();
    }
    if (update.finish == FinishReason::kNone) return SendTokens(update, text);
    auto request = sink_.finishRequest();
    Write(update, request.initUpdate());
    request.setText(ToText(text));
    return request.send().ignoreResult();
  }

  kj::Promise<void> SendTokens(const SequenceUpdate& update, const std::string& text) {
    auto request = sink_.tokensRequest();
    Write(update, request.initUpdate());
    request.setText(ToText(text));
    return request.send();
  }

  // What of a text too long for one call goes first, in whole characters.
  static std::string TakeLongText(std::string& from) {
    size_t end = kUpdateBytesMax;
    while ((static_cast<unsigned char>(from[end]) & 0xC0) == 0x80) --end;
    std::string text = from.substr(0, end);
    from.erase(0, end);
    return text;
  }

  wire::TokenSink::Client sink_;
  UpstreamListener& listener_;
  kj::TaskSet& tasks_;
  kj::Timer& timer_;
  const kj::Duration timeout_;
  uint64_t generation_ = 0;
  std::deque<Part> parts_;  // Unsent.
  std::optional<StreamError> failure_;
  bool sending_ = false;
  bool ended_ = false;    // The listener calls no more.
  bool dropped_ = false;  // The reader is gone.
};

// While it is held its connection is in use.
using UseToken = std::shared_ptr<void>;

class GenerationServer : public wire::Generation::Server {
 public:
  GenerationServer(kj::Own<SinkCaller> sink, UseToken token)
      : token_(std::move(token)), sink_(kj::mv(sink)) {}
  ~GenerationServer() noexcept(false) { sink_->Drop(); }
  KJ_DISALLOW_COPY(GenerationServer);

  kj::Promise<void> cancel(CancelContext) override {
    sink_->Cancel();
    return kj::READY_NOW;
  }

 private:
  const UseToken token_;
  kj::Own<SinkCaller> sink_;
};

class ServicePort : public wire::Coordinator::Server {
 public:
  ServicePort(UpstreamListener& listener, kj::TaskSet& tasks, const ClusterServerOptions& options,
              kj::Timer& timer, std::string api_key, std::shared_ptr<ServiceUse> use)
      : listener_(listener),
        tasks_(tasks),
        options_(options),
        timer_(timer),
        api_key_(std::move(api_key)),
        use_(std::move(use)) {}

  kj::Promise<void> generate(GenerateContext context) override {
    return TranslateErrors([&] {
      auto caller = kj::heap<Caller>(NeedCaller());
      auto request = kj::heap<GenerateRequest>(Read(context.getParams().getRequest()));
      auto prompt = listener_.OnPrompt(*request, *caller);
      return prompt.then([this, context, token = MakeToken(), request = kj::mv(request),
                          caller = kj::mv(caller)](kj::Own<EncodedPrompt>&& prompt) mutable {
        Generate(context, *request, *caller, std::move(*prompt), std::move(token));
      });
    });
  }

  kj::Promise<void> status(StatusContext context) override {
    return TranslateErrors([&]() -> kj::Promise<void> {
      NeedCaller();
      Write(listener_.OnStatus(), context.getResults().initStatus());
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> drain(DrainContext context) override {
    return TranslateErrors([&]() -> kj::Promise<void> {
      const auto params = context.getParams();
      const auto token = params.getGroupToken().asChars();
      std::string refusal =
          FindDrainRefusal(NeedCaller(), std::string_view(token.begin(), token.size()));
      if (refusal.empty()) refusal = listener_.OnDrainGroup(params.getGroup(), params.getRestart());
      context.getResults().setRefusal(ToText(refusal));
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> records(RecordsContext context) override {
    return TranslateErrors([&]() -> kj::Promise<void> {
      const auto params = context.getParams();
      Write(listener_.OnRecords({.request = ToString(params.getRequest()),
                                 .tenant = NeedCaller().seen_tenant(),
                                 .since_ms = params.getSinceMs(),
                                 .after = params.getAfter()}),
            context.getResults().initPage());
      return kj::READY_NOW;
    });
  }

  kj::Promise<void> models(ModelsContext context) override {
    return TranslateErrors([&]() -> kj::Promise<void> {
      NeedCaller();
      const std::vector<ServedModel> models = listener_.OnModels();
      auto list = context.getResults().initModels(static_cast<unsigned>(models.size()));
      for (unsigned i = 0; i < models.size(); ++i) Write(models[i], list[i]);
      return kj::READY_NOW;
    });
  }

 private:
  // Errors: kPeerFailed if the key, which was somebody's once, is nobody's any more.
  Caller NeedCaller() const {
    use_->last_call = timer_.now();
    if (!options_.find_caller) return {};
    std::optional<Caller> caller = options_.find_caller(api_key_);
    if (caller) return *std::move(caller);
    Throw(ErrorCode::kPeerFailed,
          "the API key of this connection is not known any more: connect with another one");
  }

  UseToken MakeToken() const {
    ++use_->live;
    return {nullptr, [use = use_](void*) { --use->live; }};
  }

  // To drain is an operator's act. Empty: it may.
  std::string FindDrainRefusal(const Caller& caller, std::string_view token) const {
    if (caller.is_operator) return "";
    if (!options_.group_token.empty()) {
      return SecretsEqual(token, options_.group_token)
                 ? ""
                 : "the group token is missing or wrong: who drains a group must show the "
                   "coordinator's --group-token-file";
    }
    if (caller.sees_all()) return "";  // No key is asked for, and no token.
    return "an API key is not enough to drain a group: start the coordinator with "
           "--group-token-file, and show that token";
  }

  void Generate(GenerateContext& context, const GenerateRequest& request, const Caller& caller,
                EncodedPrompt prompt, UseToken token) {
    auto sink = kj::refcounted<SinkCaller>(context.getParams().getSink(), listener_, tasks_, timer_,
                                           options_.sink_timeout_ms);
    const GenerateReply reply = listener_.OnGenerate(request, std::move(prompt), caller, *sink);
    auto outcome = context.getResults().initOutcome();
    if (reply.generation == 0) {
      Write(reply.refusal, outcome.initRefused());
      return;
    }
    sink->Started(reply.generation);
    auto accepted = outcome.initAccepted();
    accepted.setPromptTokens(reply.prompt_tokens);
    accepted.setSeed(reply.seed);
    accepted.setCursor(ToText(reply.cursor));
    accepted.setRecomputing(reply.recomputing);
    accepted.setDegraded(reply.rung != 0);
    accepted.setModelUsed(ToText(reply.model_used));
    accepted.setRung(reply.rung);
    accepted.setGeneration(kj::heap<GenerationServer>(kj::mv(sink), std::move(token)));
  }

  UpstreamListener& listener_;
  kj::TaskSet& tasks_;
  const ClusterServerOptions& options_;
  kj::Timer& timer_;
  const std::string api_key_;
  const std::shared_ptr<ServiceUse> use_;
};

}  // namespace

wire::Coordinator::Client MakeServicePort(UpstreamListener& listener, kj::TaskSet& tasks,
                                          const ClusterServerOptions& options, kj::Timer& timer,
                                          std::string api_key, std::shared_ptr<ServiceUse> use) {
  return kj::heap<ServicePort>(listener, tasks, options, timer, std::move(api_key), std::move(use));
}

}  // namespace shoal::rpc
