#include "transport/rpc/server/service_port.h"

#include <glog/logging.h>
#include <kj/refcount.h>

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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
  SinkCaller(wire::TokenSink::Client sink, UpstreamListener& listener, kj::TaskSet& tasks)
      : sink_(kj::mv(sink)), listener_(listener), tasks_(tasks) {}
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
    auto self = kj::addRef(*this);
    tasks_.add(SendPending().then(
        [this, self = kj::mv(self)] {
          sending_ = false;
          SendNext();
        },
        [this, self = kj::addRef(*this)](kj::Exception&& exception) {
          VLOG(1) << "generation " << generation_
                  << " has no reader any more: " << exception.getDescription().cStr();
          Drop();
        }));
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
  uint64_t generation_ = 0;
  std::deque<Part> parts_;  // Unsent.
  std::optional<StreamError> failure_;
  bool sending_ = false;
  bool ended_ = false;    // The listener calls no more.
  bool dropped_ = false;  // The reader is gone.
};

class GenerationServer : public wire::Generation::Server {
 public:
  explicit GenerationServer(kj::Own<SinkCaller> sink) : sink_(kj::mv(sink)) {}
  ~GenerationServer() noexcept(false) { sink_->Drop(); }
  KJ_DISALLOW_COPY(GenerationServer);

  kj::Promise<void> cancel(CancelContext) override {
    sink_->Cancel();
    return kj::READY_NOW;
  }

 private:
  kj::Own<SinkCaller> sink_;
};

class ServicePort : public wire::Coordinator::Server {
 public:
  ServicePort(UpstreamListener& listener, kj::TaskSet& tasks, std::string group_token,
              Caller caller)
      : listener_(listener),
        tasks_(tasks),
        group_token_(std::move(group_token)),
        caller_(std::move(caller)) {}

  kj::Promise<void> generate(GenerateContext context) override {
    return TranslateErrors([&] {
      auto request = kj::heap<GenerateRequest>(Read(context.getParams().getRequest()));
      auto prompt = listener_.OnPrompt(*request, caller_);
      return prompt.then(
          [this, context, request = kj::mv(request)](kj::Own<EncodedPrompt>&& prompt) mutable {
            Generate(context, *request, std::move(*prompt));
          });
    });
  }

  kj::Promise<void> status(StatusContext context) override {
    Write(listener_.OnStatus(), context.getResults().initStatus());
    return kj::READY_NOW;
  }

  kj::Promise<void> drain(DrainContext context) override {
    const auto params = context.getParams();
    const auto token = params.getGroupToken().asChars();
    const bool may = group_token_.empty() ||
                     SecretsEqual(std::string_view(token.begin(), token.size()), group_token_);
    const std::string refusal =
        may ? listener_.OnDrainGroup(params.getGroup(), params.getRestart())
            : "the group token is missing or wrong: who drains a group must show the "
              "coordinator's --group-token-file";
    context.getResults().setRefusal(ToText(refusal));
    return kj::READY_NOW;
  }

  kj::Promise<void> records(RecordsContext context) override {
    const auto params = context.getParams();
    Write(listener_.OnRecords({.request = ToString(params.getRequest()),
                               .tenant = caller_.tenant,
                               .since_ms = params.getSinceMs(),
                               .after = params.getAfter()}),
          context.getResults().initPage());
    return kj::READY_NOW;
  }

  kj::Promise<void> models(ModelsContext context) override {
    const std::vector<ServedModel> models = listener_.OnModels();
    auto list = context.getResults().initModels(static_cast<unsigned>(models.size()));
    for (unsigned i = 0; i < models.size(); ++i) Write(models[i], list[i]);
    return kj::READY_NOW;
  }

 private:
  void Generate(GenerateContext& context, const GenerateRequest& request, EncodedPrompt prompt) {
    auto sink = kj::refcounted<SinkCaller>(context.getParams().getSink(), listener_, tasks_);
    const GenerateReply reply = listener_.OnGenerate(request, std::move(prompt), caller_, *sink);
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
    accepted.setGeneration(kj::heap<GenerationServer>(kj::mv(sink)));
  }

  UpstreamListener& listener_;
  kj::TaskSet& tasks_;
  const std::string group_token_;
  const Caller caller_;
};

}  // namespace

wire::Coordinator::Client MakeServicePort(UpstreamListener& listener, kj::TaskSet& tasks,
                                          std::string group_token, Caller caller) {
  return kj::heap<ServicePort>(listener, tasks, std::move(group_token), std::move(caller));
}

}  // namespace shoal::rpc
