#include "coordinator/shell/rpc_gateway.h"

#include <optional>
#include <utility>
#include <variant>

#include "coordinator/gateway/text/prompt_encoder.h"
#include "transport/base/error.h"

namespace shoal::gateway {

namespace {

// As in service.capnp, spelled as the structs of this project spell it.
constexpr ApiWords kRpcWords = {.stop_ids = "stop_ids",
                                .tokens_max = "tokens_max",
                                .instead_of_text = "send token ids",
                                .instead_of_chat = "send text"};

bool HasText(const rpc::GenerateRequest& request) {
  return !std::holds_alternative<std::vector<int32_t>>(request.prompt);
}

size_t TextBytes(const rpc::GenerateRequest& request) {
  size_t bytes = request.params.grammar.text.size();
  if (const auto* text = std::get_if<std::string>(&request.prompt)) bytes += text->size();
  const auto* chat = std::get_if<Conversation>(&request.prompt);
  if (chat == nullptr) return bytes;
  // A message without text costs the template something as well.
  constexpr size_t kMessageBytes = 16;
  for (const ChatMessage& message : *chat) {
    bytes += kMessageBytes + message.role.size() + message.content.size();
    if (message.name) bytes += message.name->size();
  }
  return bytes;
}

StreamError ToStreamError(const RequestError& error) {
  const bool too_large = error.kind == RequestError::Kind::kContextExceeded ||
                         error.kind == RequestError::Kind::kCacheExceeded;
  return MakeStreamError(too_large ? BusyReason::kTooLarge : BusyReason::kInvalid, error.what());
}

kj::Own<rpc::EncodedPrompt> EncodePrompt(const rpc::GenerateRequest& request,
                                         const TextService& own,
                                         const std::vector<ServedModel>& models) {
  auto encoded = kj::heap<rpc::EncodedPrompt>();
  try {
    const ServedModel& model = NeedModel(models, request.model);
    encoded->numerics_id = model.numerics_id;
    auto all = PromptEncoder(own, model, kRpcWords)
                   .Encode({.prompts = {&request.prompt, 1},
                            .stops_at_eos = HasText(request),
                            .params = request.params,
                            .tokens_max = request.params.tokens_max});
    encoded->tokens = std::move(all[0].ids);
    encoded->params = std::move(all[0].params);
  } catch (const RequestError& error) {  // The RPC boundary: the caller reads it in the reply.
    encoded->refusal = ToStreamError(error);
  }
  return encoded;
}

}  // namespace

// Between one stream of the region and one upstream program.
class RpcGateway::Listener : public core::StreamListener {
 public:
  Listener(RpcGateway& gateway, rpc::GenerationSink& sink, const text::Tokenizer* tokenizer)
      : gateway_(gateway), sink_(sink) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer, /*skip_special=*/true);
  }

  void Started(uint64_t generation, core::StreamId stream) {
    number_ = generation;
    stream_ = stream;
  }
  core::StreamId stream() const { return stream_; }

  void OnTokens(const SequenceUpdate& update) override { sink_.Tokens(update, Decode(update)); }

  // The last two end this object.
  void OnFinish(const SequenceUpdate& update) override {
    std::string text = Decode(update);
    if (decoder_) text += decoder_->Finish();
    sink_.Finish(update, text);
    gateway_.listeners_.erase(number_);
  }

  void OnError(const StreamError& error) override {
    sink_.Fail(error);
    gateway_.listeners_.erase(number_);
  }

 private:
  std::string Decode(const SequenceUpdate& update) {
    std::string text;
    if (!decoder_) return text;
    for (const int32_t token : update.tokens) text += decoder_->Push(token);
    return text;
  }

  RpcGateway& gateway_;
  rpc::GenerationSink& sink_;
  std::optional<text::StreamDecoder> decoder_;  // None for a prompt of token ids.
  uint64_t number_ = 0;
  core::StreamId stream_;
};

RpcGateway::RpcGateway(core::GenerationService& generation, TextService text,
                       std::function<uint64_t()> random, kj::UnixEventPort& port)
    : generation_(generation),
      text_(std::move(text)),
      random_(std::move(random)),
      text_threads_(port) {}

RpcGateway::~RpcGateway() noexcept {
  for (const auto& [number, listener] : listeners_) generation_.Cancel(listener->stream());
}

kj::Promise<kj::Own<rpc::EncodedPrompt>> RpcGateway::OnPrompt(const rpc::GenerateRequest& request) {
  std::vector<ServedModel> models = generation_.models();
  TextThread* thread = text_threads_.For(TextBytes(request));
  if (thread == nullptr) return EncodePrompt(request, text_, models);
  if (thread->full()) {
    auto refused = kj::heap<rpc::EncodedPrompt>();
    refused->refusal =
        MakeStreamError(BusyReason::kQueueFull, "too many prompts are waiting to be tokenized");
    return kj::mv(refused);
  }
  return thread
      ->Run(std::function([request, text = text_, models = std::move(models)] {
        return EncodePrompt(request, text, models);
      }))
      .then(
          [](kj::Own<Outcome<kj::Own<rpc::EncodedPrompt>>>&& outcome) { return outcome->Take(); });
}

rpc::GenerateReply RpcGateway::OnGenerate(const rpc::GenerateRequest& request,
                                          rpc::EncodedPrompt prompt, rpc::GenerationSink& sink) {
  rpc::GenerateReply reply;
  if (prompt.refusal) {
    reply.refusal = *std::move(prompt.refusal);
    return reply;
  }
  if (!request.seed_given) prompt.params.sampling.seed = random_();
  reply.prompt_tokens = static_cast<int64_t>(prompt.tokens.size());
  reply.seed = prompt.params.sampling.seed;
  auto listener =
      std::make_unique<Listener>(*this, sink, HasText(request) ? text_.tokenizer : nullptr);
  const auto outcome = generation_.Submit({std::move(prompt.tokens), std::move(prompt.params),
                                           request.model, std::move(prompt.numerics_id)},
                                          *listener);
  if (const auto* refusal = std::get_if<StreamError>(&outcome)) {
    reply.refusal = *refusal;
    return reply;
  }
  reply.generation = next_generation_++;
  listener->Started(reply.generation, std::get<core::StreamId>(outcome));
  listeners_[reply.generation] = std::move(listener);
  return reply;
}

void RpcGateway::OnCancel(uint64_t generation) {
  const auto listener = listeners_.find(generation);
  if (listener == listeners_.end()) return;
  generation_.Cancel(listener->second->stream());
  listeners_.erase(listener);
}

std::vector<ServedModel> RpcGateway::OnModels() { return generation_.models(); }

RegionStatus RpcGateway::OnStatus() { return generation_.status(); }

std::string RpcGateway::OnDrainGroup(uint64_t group, bool restart) {
  return generation_.Drain(group, restart);
}

}  // namespace shoal::gateway
