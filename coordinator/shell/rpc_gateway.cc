#include "coordinator/shell/rpc_gateway.h"

#include <optional>
#include <utility>
#include <variant>

#include "coordinator/gateway/http/http_connection.h"
#include "coordinator/gateway/resume/cursor_key.h"
#include "coordinator/gateway/resume/request_digest.h"
#include "coordinator/gateway/text/prompt_encoder.h"
#include "transport/base/check.h"
#include "transport/base/error.h"
#include "transport/base/host/system_seconds.h"

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
  size_t bytes = request.params.grammar.text.size() + request.chat.tools.size() +
                 request.chat.variables.size();
  if (const auto* text = std::get_if<std::string>(&request.prompt)) bytes += text->size();
  const auto* chat = std::get_if<Conversation>(&request.prompt);
  if (chat == nullptr) return bytes;
  // A message without text costs the template something as well.
  constexpr size_t kMessageBytes = 16;
  for (const ChatMessage& message : *chat) {
    bytes += kMessageBytes + message.role.size() + message.content.size();
    if (message.name) bytes += message.name->size();
    bytes += message.tool_calls.size() + message.reasoning.value_or("").size();
  }
  return bytes;
}

StreamError ToStreamError(const RequestError& error) {
  const bool too_large = error.kind == RequestError::Kind::kContextExceeded ||
                         error.kind == RequestError::Kind::kCacheExceeded;
  return MakeStreamError(too_large ? BusyReason::kTooLarge : BusyReason::kInvalid, error.what());
}

// The version of the model that new requests go to, or the one of that numerics id. Errors:
// RequestError.
const ServedModel& NeedVersion(const std::vector<ServedModel>& models, const std::string& name,
                               const std::optional<std::string>& numerics_id) {
  const ServedModel& model = NeedModel(models, name);
  if (!numerics_id) return model;
  for (const ServedModel& version : models) {
    if (version.name == model.name && version.numerics_id == *numerics_id) return version;
  }
  return model;  // Which the cursor does not fit.
}

// `numerics_id`: of the cursor that comes with the request.
kj::Own<rpc::EncodedPrompt> EncodePrompt(const rpc::GenerateRequest& request,
                                         const TextService& own,
                                         const std::vector<ServedModel>& models,
                                         const std::optional<std::string>& numerics_id) {
  auto encoded = kj::heap<rpc::EncodedPrompt>();
  try {
    const ServedModel& model = NeedVersion(models, request.model, numerics_id);
    encoded->numerics_id = model.numerics_id;
    auto all = PromptEncoder(own, model, kRpcWords)
                   .Encode({.prompts = {&request.prompt, 1},
                            .chat = request.chat,
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

RequestTerms TermsOf(const rpc::GenerateRequest& request, const rpc::Caller& caller) {
  RequestTerms terms = request.terms;
  terms.tenant = caller.tenant;
  return terms;
}

kj::Own<rpc::EncodedPrompt> Refused(StreamError refusal) {
  auto refused = kj::heap<rpc::EncodedPrompt>();
  refused->refusal = std::move(refusal);
  return refused;
}

}  // namespace

// Between one stream of the region and one upstream program.
class RpcGateway::Listener : public core::StreamListener {
 public:
  // Of the stream's tokens and its prompt's log-probabilities, the first ones are left out.
  Listener(RpcGateway& gateway, rpc::GenerationSink& sink, const text::Tokenizer* tokenizer,
           bool resumable, int64_t tokens_taken, int64_t prompt_logprobs_taken,
           std::shared_ptr<const ModelText> owner = nullptr)
      : owner_(std::move(owner)),
        gateway_(gateway),
        sink_(sink),
        resumable_(resumable),
        tokens_taken_(tokens_taken),
        prompt_logprobs_taken_(prompt_logprobs_taken) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer, /*skip_special=*/true);
  }

  void Started(uint64_t generation, core::StreamId stream) {
    number_ = generation;
    stream_ = stream;
  }
  core::StreamId stream() const { return stream_; }
  bool resumable() const { return resumable_; }

  void OnTokens(const SequenceUpdate& update) override {
    for (Part& part : Cut(update)) {
      const bool shows = !part.update.tokens.empty() || !part.update.prompt_logprobs.empty();
      if (shows) sink_.Tokens(part.update, part.text);
    }
  }

  // The last three end this object.
  void OnFinish(const SequenceUpdate& update) override {
    std::vector<Part> parts = Cut(update);
    if (tokens_heard_ < tokens_taken_ || prompt_logprobs_heard_ < prompt_logprobs_taken_) {
      return OnError(MakeStreamError(
          BusyReason::kCursorMismatch,
          Str("the generation ended after ", tokens_heard_, " tokens and ", prompt_logprobs_heard_,
              " log-probabilities of its prompt, but its reader has ", tokens_taken_, " and ",
              prompt_logprobs_taken_)));
    }
    Part last = std::move(parts.back());
    parts.pop_back();
    for (const Part& part : parts) sink_.Tokens(part.update, part.text);
    last.update.finish = update.finish;
    last.update.detail = update.detail;
    last.update.resumes = update.resumes;
    if (decoder_) last.text += decoder_->Finish();
    sink_.Finish(last.update, last.text);
    gateway_.listeners_.erase(number_);
  }

  void OnError(const StreamError& error) override {
    sink_.Fail(error);
    gateway_.listeners_.erase(number_);
  }

 private:
  // Tokens, and the text that they complete.
  struct Part {
    SequenceUpdate update{};
    std::string text{};
  };
  static constexpr size_t kPartTokens = 64;

  // What is not taken yet, in parts that fit a message (but for a long prompt's
  // log-probabilities). At least one, which may be empty.
  std::vector<Part> Cut(const SequenceUpdate& update) {
    std::vector<Part> parts(1);
    for (const TokenLogprobs& logprobs : update.prompt_logprobs) {
      if (prompt_logprobs_heard_++ < prompt_logprobs_taken_) continue;
      if (parts.back().update.prompt_logprobs.empty()) {
        parts.back().update.prompt_logprobs_before = prompt_logprobs_heard_ - 1;
      }
      parts.back().update.prompt_logprobs.push_back(logprobs);
    }
    if (parts.back().update.prompt_logprobs.size() > kPartTokens) parts.emplace_back();
    // It comes with the first token.
    if (tokens_taken_ == 0) parts.back().update.cached_tokens = update.cached_tokens;
    for (size_t i = 0; i < update.tokens.size(); ++i) {
      std::string text;
      if (decoder_) text = decoder_->Push(update.tokens[i]);
      if (tokens_heard_++ < tokens_taken_) continue;
      if (parts.back().update.tokens.size() >= kPartTokens) parts.emplace_back();
      Part& part = parts.back();
      if (part.update.tokens.empty()) part.update.tokens_before = tokens_heard_ - 1;
      part.update.tokens.push_back(update.tokens[i]);
      if (i < update.logprobs.size()) part.update.logprobs.push_back(update.logprobs[i]);
      part.text += text;
    }
    return parts;
  }

  const std::shared_ptr<const ModelText> owner_;  // Of the tokenizer, if it is a rung's.
  RpcGateway& gateway_;
  rpc::GenerationSink& sink_;
  const bool resumable_;
  const int64_t tokens_taken_;
  const int64_t prompt_logprobs_taken_;
  int64_t tokens_heard_ = 0;
  int64_t prompt_logprobs_heard_ = 0;
  std::optional<text::StreamDecoder> decoder_;  // None for a prompt of token ids.
  uint64_t number_ = 0;
  core::StreamId stream_;
};

RpcGateway::RpcGateway(core::GenerationService& generation, TextService text,
                       std::function<uint64_t()> random, kj::UnixEventPort& port,
                       const std::string& cursor_key, std::function<int64_t()> unix_seconds,
                       Degrader* ladder)
    : generation_(generation),
      text_(std::move(text)),
      random_(std::move(random)),
      cursors_(cursor_key.empty() ? RandomCursorKey() : cursor_key),
      unix_seconds_(unix_seconds ? std::move(unix_seconds) : SystemSeconds),
      ladder_(ladder),
      timer_(port.getTimer()),
      text_threads_(port) {}

RpcGateway::~RpcGateway() noexcept {
  while (!listeners_.empty()) OnReaderGone(listeners_.begin()->first);
}

std::variant<Cursor, StreamError> RpcGateway::ReadCursor(const std::string& text) const {
  return cursors_.Decode(text, unix_seconds_());
}

kj::Promise<kj::Own<rpc::EncodedPrompt>> RpcGateway::OnPrompt(const rpc::GenerateRequest& request,
                                                              const rpc::Caller& caller) {
  return ReadPrompt(request, caller)
      .then([arrived = Now(timer_)](kj::Own<rpc::EncodedPrompt>&& prompt) {
        prompt->arrived = arrived;
        return kj::mv(prompt);
      });
}

kj::Promise<kj::Own<rpc::EncodedPrompt>> RpcGateway::ReadPrompt(const rpc::GenerateRequest& request,
                                                                const rpc::Caller& caller) {
  std::vector<ServedModel> models = generation_.models();
  std::optional<std::string> numerics_id;
  if (request.cursor.empty()) {
    // Where the model does not answer the ladder may.
    const bool may_degrade = ladder_ != nullptr && request.terms.may_degrade;
    auto refusal = may_degrade ? std::nullopt : generation_.PreCheck(TermsOf(request, caller));
    if (refusal) return Refused(*std::move(refusal));
  } else {
    auto cursor = ReadCursor(request.cursor);
    if (auto* error = std::get_if<StreamError>(&cursor)) return Refused(std::move(*error));
    numerics_id = std::get<Cursor>(cursor).numerics_id;
  }
  TextThread* thread = text_threads_.For(TextBytes(request));
  if (thread == nullptr) return EncodePrompt(request, text_, models, numerics_id);
  if (thread->full()) {
    StreamError refusal =
        MakeStreamError(BusyReason::kQueueFull, "too many prompts are waiting to be tokenized");
    generation_.NoteRecord(core::RejectionOf(TermsOf(request, caller), refusal));
    return Refused(std::move(refusal));
  }
  return thread
      ->Run(std::function([request, text = text_, models = std::move(models),
                           numerics_id = std::move(numerics_id)] {
        return EncodePrompt(request, text, models, numerics_id);
      }))
      .then(
          [](kj::Own<Outcome<kj::Own<rpc::EncodedPrompt>>>&& outcome) { return outcome->Take(); });
}

rpc::GenerateReply RpcGateway::OnGenerate(const rpc::GenerateRequest& request,
                                          rpc::EncodedPrompt prompt, const rpc::Caller& caller,
                                          rpc::GenerationSink& sink) {
  rpc::GenerateReply reply;
  if (prompt.refusal) {
    reply.refusal = *std::move(prompt.refusal);
    return reply;
  }
  if (request.tokens_taken < 0 || request.prompt_logprobs_taken < 0) {
    reply.refusal = MakeStreamError(BusyReason::kInvalid, "what is taken must not be negative");
    return reply;
  }
  auto made = MakeCursor(request, prompt, caller.owner);
  if (auto* refusal = std::get_if<StreamError>(&made)) {
    reply.refusal = std::move(*refusal);
    return reply;
  }
  const Cursor& cursor = std::get<Cursor>(made);
  const bool resumes = !request.cursor.empty();
  const bool resumable = request.resumable || resumes;
  prompt.params.sampling.seed = cursor.seed;
  reply.prompt_tokens = static_cast<int64_t>(prompt.tokens.size());
  reply.seed = cursor.seed;
  if (resumable) reply.cursor = cursors_.Encode(cursor);
  auto listener = std::make_unique<Listener>(
      *this, sink, HasText(request) ? text_.tokenizer : nullptr, resumable,
      resumes ? request.tokens_taken : 0, resumes ? request.prompt_logprobs_taken : 0);
  const bool shares = request.seed_given || prompt.params.sampling.temperature == 0;
  core::Request what = {.prompt = std::move(prompt.tokens),
                        .params = std::move(prompt.params),
                        .model = request.model,
                        .numerics_id = std::move(prompt.numerics_id),
                        .resumable = resumable,
                        .shares = shares,
                        .stream = cursor.answer,
                        .terms = TermsOf(request, caller)};
  if (what.terms.name.empty()) what.terms.name = Str("rpc-", cursor.answer);
  if (auto late = TakeTime(what.terms, Now(timer_) - prompt.arrived)) {
    generation_.NoteRecord(core::RejectionOf(what.terms, *late));
    reply.refusal = *std::move(late);
    return reply;
  }
  core::StreamId stream = cursor.answer;
  if (resumes) {
    GiveUp(stream);
    auto outcome = generation_.Resume(std::move(what), *listener);
    if (auto* refusal = std::get_if<StreamError>(&outcome)) {
      reply.refusal = std::move(*refusal);
      return reply;
    }
    reply.recomputing = std::get<core::GenerationService::Resumed>(outcome).recomputing;
  } else {
    auto outcome = Begin(request, std::move(what), sink, listener, reply);
    if (auto* refusal = std::get_if<StreamError>(&outcome)) {
      reply.refusal = std::move(*refusal);
      return reply;
    }
    stream = std::get<core::StreamId>(outcome);
  }
  reply.generation = next_generation_++;
  listener->Started(reply.generation, stream);
  listeners_[reply.generation] = std::move(listener);
  return reply;
}

std::variant<core::StreamId, StreamError> RpcGateway::Begin(const rpc::GenerateRequest& request,
                                                            core::Request what,
                                                            rpc::GenerationSink& sink,
                                                            std::unique_ptr<Listener>& listener,
                                                            rpc::GenerateReply& reply) {
  if (ladder_ == nullptr || !what.terms.may_degrade) {
    return generation_.Submit(std::move(what), *listener);
  }
  const std::vector<ServedModel> models = generation_.models();
  // It may have gone while the prompt was read: what Submit says of it is said.
  if (core::FindModel(models, request.model) == nullptr) {
    return generation_.Submit(std::move(what), *listener);
  }
  const ServedModel& asked = NeedVersion(models, request.model, what.numerics_id);
  StreamError refusal{};
  std::optional<BusyReason> why;
  const std::shared_ptr<const LadderRungs> rungs = ladder_->rungs();
  for (const int32_t rung : ladder_->Order(what.terms)) {
    if (rung == 0) {
      auto outcome = generation_.Submit(what, *listener);
      const auto* const error = std::get_if<StreamError>(&outcome);
      if (error == nullptr) return outcome;
      why = rungs->ReasonOf(ToString(error->reason));
      if (!why) return outcome;
      refusal = *error;
      ladder_->NoteRefusal(*rungs, rung, *why, what.terms);
      continue;
    }
    // The others answer with text that has no tokens.
    if (rungs->rung(rung).kind != core::RungKind::kModel) continue;
    const std::optional<ModelRung> found = rungs->FindModel(rung, asked, models);
    auto lower = found ? MakeRungRequest(request, what, *found) : std::nullopt;
    if (!lower) continue;
    const auto prompt_tokens = static_cast<int64_t>(lower->prompt.size());
    auto other = std::make_unique<Listener>(
        *this, sink, HasText(request) ? found->text.tokenizer : nullptr, false, 0, 0, found->owner);
    auto outcome = generation_.Submit(*std::move(lower), *other);
    if (const auto* error = std::get_if<StreamError>(&outcome)) {
      ladder_->NoteRefusal(*rungs, rung, error->reason, what.terms);
      continue;
    }
    listener = std::move(other);
    reply.model_used = found->model.name;
    reply.rung = rung;
    reply.prompt_tokens = prompt_tokens;
    reply.cursor.clear();
    ladder_->NoteAnswer(*rungs, rung, what.terms, std::get<core::StreamId>(outcome), why);
    return outcome;
  }
  return refusal;
}

std::optional<core::Request> RpcGateway::MakeRungRequest(const rpc::GenerateRequest& request,
                                                         const core::Request& what,
                                                         const ModelRung& rung) {
  const bool has_ids = !HasText(request) || !request.params.stop_ids.empty() ||
                       !request.params.sampling.logit_bias.empty();
  // What is longer holds the loop up for too long.
  if ((has_ids && !rung.same_vocabulary) || TextBytes(request) > kLargeTextBytes) {
    return std::nullopt;
  }
  rpc::GenerateRequest named = request;
  named.model = rung.model.name;
  auto encoded = EncodePrompt(named, rung.text, {rung.model}, std::nullopt);
  if (encoded->refusal) return std::nullopt;
  core::Request lower = what;
  lower.prompt = std::move(encoded->tokens);
  lower.params = std::move(encoded->params);
  lower.params.sampling.seed = what.params.sampling.seed;
  lower.model = rung.model.name;
  lower.numerics_id = rung.model.numerics_id;
  lower.resumable = false;  // A cursor would be of another model than the one that is asked for.
  return lower;
}

std::variant<Cursor, StreamError> RpcGateway::MakeCursor(const rpc::GenerateRequest& request,
                                                         const rpc::EncodedPrompt& prompt,
                                                         const std::string& owner) {
  Cursor fresh = {.created = unix_seconds_(),
                  .answer = {random_(), random_()},
                  .door = CursorDoor::kRpc,
                  .seed = request.seed_given ? prompt.params.sampling.seed : random_(),
                  .numerics_id = prompt.numerics_id};
  if (!request.resumable && request.cursor.empty()) return fresh;
  GenerationParams params = prompt.params;
  params.sampling.seed = fresh.seed;
  fresh.model = DigestText(request.model);
  std::optional<Cursor> cursor;
  if (!request.cursor.empty()) {
    auto decoded = ReadCursor(request.cursor);
    if (std::holds_alternative<StreamError>(decoded)) return decoded;
    cursor = std::get<Cursor>(std::move(decoded));
    if (!request.seed_given) params.sampling.seed = cursor->seed;
  }
  fresh.request = DigestRequest(prompt.tokens, params, HasText(request), owner);
  if (!cursor) return fresh;
  std::string mismatch = FindMismatch(*cursor, fresh.door, fresh.model, fresh.request, 0);
  if (mismatch.empty() && prompt.numerics_id.empty()) {  // This coordinator has just begun.
    return MakeStreamError(BusyReason::kNoGroup, "no group has joined yet");
  }
  if (mismatch.empty() && cursor->numerics_id != prompt.numerics_id) {
    mismatch = Str("the cursor is of a generation of numerics id ", cursor->numerics_id,
                   ", which is not served; the model's is ", prompt.numerics_id);
  }
  if (!mismatch.empty()) return MakeStreamError(BusyReason::kCursorMismatch, mismatch);
  return *std::move(cursor);
}

void RpcGateway::GiveUp(const core::StreamId& stream) {
  for (const auto& [number, listener] : listeners_) {
    if (listener->stream() != stream || !listener->resumable()) continue;
    generation_.Detach(stream);
    listener->OnError(
        MakeStreamError(BusyReason::kStreamTaken, "another client goes on with the generation"));
    return;
  }
}

void RpcGateway::OnReaderGone(uint64_t generation) {
  const auto listener = listeners_.find(generation);
  if (listener == listeners_.end()) return;
  if (!listener->second->resumable()) return OnCancel(generation);
  generation_.Detach(listener->second->stream());
  listeners_.erase(listener);
}

void RpcGateway::OnCancel(uint64_t generation) {
  const auto listener = listeners_.find(generation);
  if (listener == listeners_.end()) return;
  generation_.Cancel(listener->second->stream());
  listeners_.erase(listener);
}

std::vector<ServedModel> RpcGateway::OnModels() { return generation_.models(); }

RecordPage RpcGateway::OnRecords(const RecordQuery& query) {
  return generation_.FindRecords(query);
}

RegionStatus RpcGateway::OnStatus() { return generation_.status(); }

std::string RpcGateway::OnDrainGroup(uint64_t group, bool restart) {
  return generation_.Drain(group, restart);
}

}  // namespace shoal::gateway
