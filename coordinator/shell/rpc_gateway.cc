#include "coordinator/shell/rpc_gateway.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <variant>

#include "coordinator/gateway/answer/generation_plan.h"
#include "coordinator/gateway/api/response_format.h"
#include "coordinator/gateway/text/other_text.h"
#include "transport/base/error.h"
#include "transport/rpc/connection.h"

namespace shoal::gateway {

namespace {

void CheckPrompt(const std::vector<int32_t>& prompt, int32_t vocab_size) {
  if (prompt.empty()) Throw(ErrorCode::kInvalidArgument, "prompt: expected at least one token");
  if (prompt.size() > rpc::kPromptTokensMax) {
    Throw(ErrorCode::kInvalidArgument, "prompt has ", prompt.size(), " tokens: expected at most ",
          rpc::kPromptTokensMax);
  }
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= vocab_size) {
      Throw(ErrorCode::kInvalidArgument, "prompt[", i, "] is ", prompt[i],
            ": expected a token id from 0 to ", vocab_size - 1);
    }
  }
}

bool HasText(const rpc::GenerateRequest& request) {
  return !request.text.empty() || !request.chat.empty();
}

size_t TextBytes(const rpc::GenerateRequest& request) {
  size_t bytes = request.text.size() + request.params.grammar.text.size();
  // A message without text costs the template something as well.
  constexpr size_t kMessageBytes = 16;
  for (const rpc::ChatMessage& message : request.chat) {
    bytes += kMessageBytes + message.role.size() + message.content.size();
  }
  return bytes;
}

std::vector<int32_t> Encode(const rpc::GenerateRequest& request, const TextService& text) {
  if (!HasText(request)) return request.tokens;
  if (text.tokenizer == nullptr) {
    Throw(ErrorCode::kInvalidArgument, "prompt: this model has no tokenizer",
          text.tokenizer_refusal.empty() ? ""
                                         : Str(" that can be used (", text.tokenizer_refusal, ")"),
          ", send token ids");
  }
  if (!request.chat.empty()) {
    if (!text.encode_chat) {
      Throw(ErrorCode::kInvalidArgument, "prompt: this model has no chat template",
            text.chat_refusal.empty() ? "" : Str(" that can be used (", text.chat_refusal, ")"),
            ", send text");
    }
    auto messages = nlohmann::ordered_json::array();
    for (const rpc::ChatMessage& message : request.chat) {
      messages.push_back({{"role", message.role}, {"content", message.content}});
    }
    return text.encode_chat(messages);
  }
  std::vector<int32_t> prompt =
      text.tokenizer->Encode(request.text, text::SpecialTokens::kRecognized);
  const std::optional<int32_t> bos = text.tokenizer->bos_to_add();
  if (bos) prompt.insert(prompt.begin(), *bos);
  return prompt;
}

// Errors: kInvalidArgument, with the names that are served.
const core::ServedModel& GetModel(const std::vector<core::ServedModel>& models,
                                  const std::string& name) {
  const core::ServedModel* model = core::FindModel(models, name);
  if (model != nullptr) return *model;
  Throw(ErrorCode::kInvalidArgument, "model: ", name,
        " is not served here; served: ", core::JoinNames(models));
}

rpc::EncodedPrompt EncodePrompt(const rpc::GenerateRequest& request, const TextService& own,
                                const std::vector<core::ServedModel>& models) {
  rpc::EncodedPrompt prompt;
  try {
    const core::ServedModel& model = GetModel(models, request.model);
    const std::optional<TextService> other = OtherText(model, own);
    const TextService& text = other ? *other : own;
    prompt.numerics_id = model.numerics_id;
    prompt.tokens = Encode(request, text);
    CheckPrompt(prompt.tokens, VocabSize(text, model));
    CheckGrammar({request.params.grammar, "grammar"}, text);
  } catch (const Error& error) {  // The RPC boundary: the caller reads it in the reply.
    prompt.busy = {"invalid", error.what(), 0};
  }
  return prompt;
}

rpc::BusyInfo ToInfo(const core::StreamError& error) {
  return {std::string(ToString(error.reason)), error.message, error.retry_after_ms};
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

  void OnError(const core::StreamError& error) override {
    sink_.Fail(ToInfo(error));
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

kj::Promise<rpc::EncodedPrompt> RpcGateway::OnPrompt(const rpc::GenerateRequest& request) {
  std::vector<core::ServedModel> models = generation_.models();
  TextThread* thread = text_threads_.For(TextBytes(request));
  if (thread == nullptr) return EncodePrompt(request, text_, models);
  if (thread->full()) {
    return rpc::EncodedPrompt{
        {},
        {},
        ToInfo(core::MakeStreamError(core::BusyReason::kQueueFull,
                                     "too many prompts are waiting to be tokenized"))};
  }
  return thread
      ->Run(std::function(
          [request, text = text_, models] { return EncodePrompt(request, text, models); }))
      .then([](kj::Own<Outcome<rpc::EncodedPrompt>>&& outcome) { return outcome->Take(); });
}

rpc::GenerateReply RpcGateway::OnGenerate(const rpc::GenerateRequest& request,
                                          rpc::EncodedPrompt prompt, rpc::GenerationSink& sink) {
  rpc::GenerateReply reply;
  if (!prompt.busy.reason.empty()) {
    reply.busy = std::move(prompt.busy);
    return reply;
  }
  const std::vector<core::ServedModel> models = generation_.models();
  const core::ServedModel* model = core::FindModel(models, request.model);
  if (model == nullptr || model->numerics_id != prompt.numerics_id) {
    reply.busy = ToInfo(core::MakeStreamError(
        core::BusyReason::kNoGroup, "the version of the model that was to answer is gone"));
    return reply;
  }
  const std::optional<TextService> other = OtherText(*model, text_);
  GenerationParams params = request.params;
  const bool has_text = HasText(request);
  if (has_text) {
    params.stop_ids.insert(params.stop_ids.end(), text_.eos_ids.begin(), text_.eos_ids.end());
  }
  try {
    CheckParams(params);
    CheckTokenIds(params, VocabSize(other ? *other : text_, *model));
  } catch (const Error& error) {  // The RPC boundary: the caller reads it in the reply.
    reply.busy = {"invalid", error.what(), 0};
    return reply;
  }
  if (!request.seed_given) params.sampling.seed = random_();

  reply.prompt_tokens = static_cast<int64_t>(prompt.tokens.size());
  reply.seed = params.sampling.seed;
  auto listener = std::make_unique<Listener>(*this, sink, has_text ? text_.tokenizer : nullptr);
  const auto outcome = generation_.Submit(
      {std::move(prompt.tokens), params, model->name, model->numerics_id}, *listener);
  if (const auto* refusal = std::get_if<core::StreamError>(&outcome)) {
    reply.busy = ToInfo(*refusal);
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

std::vector<rpc::ModelInfo> RpcGateway::OnModels() {
  std::vector<rpc::ModelInfo> models;
  for (const core::ServedModel& model : generation_.models()) {
    models.push_back({model.name, model.numerics_id, model.context_tokens, model.kv_cache_tokens,
                      model.groups_ready, model.requests_waiting, model.canary_digest});
  }
  return models;
}

rpc::StatusInfo RpcGateway::OnStatus() {
  const core::RegionStatus status = generation_.status();
  rpc::StatusInfo info;
  for (const core::GroupStatus& group : status.groups) {
    info.groups.push_back({group.group, group.epoch, group.name, group.model_name,
                           group.numerics_id, group.tensor_parallel, group.pipeline_parallel,
                           group.ranks, group.ready, group.stats});
  }
  info.requests_waiting = status.requests_waiting;
  info.requests_total = status.requests_total;
  info.streams_live = status.streams_live;
  info.group_losses_total = status.group_losses_total;
  return info;
}

}  // namespace shoal::gateway
