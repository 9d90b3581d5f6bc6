#include "tests/coordinator/gateway/fakes.h"

// The fakes are synchronous: whatever a test delivers is heard before the call returns.

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {

std::vector<int32_t> ByteTokenizer::EncodeMarked(std::string_view text,
                                                 std::span<const text::ByteRange> plain) const {
  if (on_encode) on_encode();
  std::vector<int32_t> ids;
  for (size_t at = 0; at < text.size(); ++at) {
    const size_t end = at + eos_text_.size();
    const bool is_eos = text.substr(at).starts_with(eos_text_) &&
                        std::none_of(plain.begin(), plain.end(), [&](const text::ByteRange& range) {
                          return range.begin < end && at < range.end;
                        });
    ids.push_back(is_eos ? kEos : static_cast<unsigned char>(text[at]));
    if (is_eos) at = end - 1;
  }
  return ids;
}

std::optional<int32_t> ByteTokenizer::bos_to_add() const {
  return adds_bos_ ? std::optional<int32_t>(kBos) : std::nullopt;
}

std::string ByteTokenizer::TokenBytes(int32_t id, bool skip_special) const {
  if (on_token_bytes) on_token_bytes();
  if (id >= 0 && id < 256) return std::string(1, static_cast<char>(id));
  if (!IsSpecial(id) || skip_special) return "";
  return id == kEos ? "<eos>" : "<bos>";
}

std::variant<core::StreamId, StreamError> FakeGeneration::Submit(core::Request request,
                                                                 core::StreamListener& listener) {
  if (const auto found = refusals.find(request.model); found != refusals.end()) {
    return MakeStreamError(found->second, "not that model now");
  }
  std::vector<int32_t>& prompt = request.prompt;
  // What a gateway takes, a group takes.
  CheckParams(request.params);
  int32_t vocab_size = kByteVocabSize;
  for (const ServedModel& other : others) {
    if (other.name == request.model && other.vocab_size > 0) vocab_size = other.vocab_size;
  }
  CheckTokenIds(request.params, vocab_size);
  SHOAL_CHECK(!prompt.empty() && *std::max_element(prompt.begin(), prompt.end()) < vocab_size);
  if (refusal && sequences.size() >= accepted_before_refusal) return *refusal;
  const core::StreamId stream = request.stream.value_or(core::StreamId{0, sequences.size() + 1});
  sequences.push_back({std::move(prompt), request.params, &listener, false, 0, request.model,
                       request.numerics_id, stream, request.resumable, false, request.terms,
                       request.shares});
  return stream;
}

std::optional<size_t> FakeGeneration::Find(core::StreamId stream) const {
  for (size_t i = sequences.size(); i > 0; --i) {
    if (sequences[i - 1].stream == stream) return i - 1;
  }
  return std::nullopt;
}

std::vector<ServedModel> FakeGeneration::models() const {
  std::vector<ServedModel> models = {served};
  models.insert(models.end(), others.begin(), others.end());
  return models;
}

std::variant<core::GenerationService::Resumed, StreamError> FakeGeneration::Resume(
    core::Request request, core::StreamListener& listener) {
  SHOAL_CHECK(request.stream.has_value() && request.resumable);
  const std::optional<size_t> known = Find(*request.stream);
  if (known && !sequences[*known].cancelled) {
    Sequence& sequence = sequences[*known];
    SHOAL_CHECK(sequence.listener == nullptr, "two listen");
    SHOAL_CHECK(sequence.prompt == request.prompt && sequence.model == request.model);
    sequence.listener = &listener;
    sequence.detached = false;
    return Resumed{};
  }
  auto outcome = Submit(std::move(request), listener);
  if (auto* error = std::get_if<StreamError>(&outcome)) return std::move(*error);
  return Resumed{.recomputing = true};
}

void FakeGeneration::Detach(core::StreamId stream) {
  const std::optional<size_t> index = Find(stream);
  if (!index || sequences[*index].listener == nullptr) return;
  if (!sequences[*index].resumable) return Cancel(stream);
  sequences[*index].detached = true;
  sequences[*index].listener = nullptr;
}

void FakeGeneration::Cancel(core::StreamId stream) {
  const std::optional<size_t> index = Find(stream);
  if (!index) return;
  Sequence& sequence = sequences[*index];
  if (sequence.listener != nullptr) sequence.cancelled = true;
  sequence.listener = nullptr;
}

// To its listener, which an end leaves without.
void FakeGeneration::Say(size_t index, SequenceUpdate update) {
  Sequence& sequence = sequences[index];
  if (sequence.resumable) sequence.said.push_back(update);
  if (sequence.listener == nullptr) return;
  if (update.finish == FinishReason::kNone) return sequence.listener->OnTokens(update);
  std::exchange(sequence.listener, nullptr)->OnFinish(update);
}

void FakeGeneration::Replay(size_t index) {
  Sequence& sequence = sequences.at(index);
  for (const SequenceUpdate& update : std::exchange(sequence.said, {})) Say(index, update);
}

TokenLogprobs FakeGeneration::Logprobs(int32_t token, int32_t top_count) {
  TokenLogprobs result;
  result.logprob = -0.1F * static_cast<float>(token % 7 + 1);
  for (int32_t i = 0; i < top_count; ++i) {
    result.top.emplace_back('a' + i, -0.3F * static_cast<float>(i + 1));
  }
  return result;
}

SequenceUpdate FakeGeneration::Update(Sequence& sequence, std::vector<int32_t> tokens) {
  SequenceUpdate update;
  if (sequence.params.prompt_logprobs) {
    for (size_t i = 1; i < sequence.prompt.size(); ++i) {
      update.prompt_logprobs.push_back(Logprobs(sequence.prompt[i], sequence.params.top_logprobs));
    }
    sequence.params.prompt_logprobs = false;
  }
  if (sequence.params.top_logprobs >= 0) {
    for (const int32_t token : tokens) {
      update.logprobs.push_back(Logprobs(token, sequence.params.top_logprobs));
    }
  }
  update.tokens = std::move(tokens);
  update.cached_tokens = std::exchange(sequence.cached_tokens, 0);
  return update;
}

void FakeGeneration::Deliver(size_t index, std::string_view bytes) {
  std::vector<int32_t> tokens;
  for (const char c : bytes) tokens.push_back(static_cast<unsigned char>(c));
  Deliver(index, std::move(tokens));
}

void FakeGeneration::Deliver(size_t index, std::vector<int32_t> tokens) {
  Sequence& sequence = sequences.at(index);
  if (sequence.listener == nullptr && !sequence.detached) return;
  Say(index, Update(sequence, std::move(tokens)));
}

void FakeGeneration::DeliverPrompt(size_t index, size_t begin, size_t end) {
  Sequence& sequence = sequences.at(index);
  if (sequence.listener == nullptr) return;
  SequenceUpdate update;
  for (size_t i = begin; i < end; ++i) {
    update.prompt_logprobs.push_back(Logprobs(sequence.prompt[i], sequence.params.top_logprobs));
  }
  sequence.params.prompt_logprobs = end < sequence.prompt.size();
  Say(index, std::move(update));
}

void FakeGeneration::Finish(size_t index, FinishReason reason, std::vector<int32_t> tokens) {
  Sequence& sequence = sequences.at(index);
  if (sequence.listener == nullptr && !sequence.detached) return;
  SequenceUpdate update = Update(sequence, std::move(tokens));
  update.finish = reason;
  update.resumes = resumes;
  if (reason == FinishReason::kNumericError) update.detail = "layer 7, position 12";
  Say(index, std::move(update));
}

void FakeGeneration::Fail(size_t index, BusyReason reason) {
  Sequence& sequence = sequences.at(index);
  if (sequence.listener == nullptr) return;
  std::exchange(sequence.listener, nullptr)->OnError({reason, "rank 1 was lost", 1500});
}

std::vector<Reply::Event> Reply::all_events() const {
  std::vector<Event> found;
  Event event;
  size_t begin = 0;
  for (size_t end = body.find('\n'); end != std::string::npos; end = body.find('\n', begin)) {
    const std::string line = body.substr(begin, end - begin);
    begin = end + 1;
    if (line.starts_with("id: ")) event.id = line.substr(4);
    if (line.starts_with("data: ")) event.data = line.substr(6);
    if (!line.empty()) continue;
    if (!event.data.empty()) found.push_back(event);
    event = {};
  }
  return found;
}

std::vector<std::string> Reply::events() const {
  std::vector<std::string> found;
  for (Event& event : all_events()) found.push_back(std::move(event.data));
  return found;
}

nlohmann::json JoinChunks(const Reply& reply) {
  using nlohmann::json;
  std::map<int, json> choices;
  const auto events = reply.events();
  if (events.empty() || events.back() != "[DONE]") {
    throw std::runtime_error("the stream's last event is not [DONE]");
  }
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const json chunk = json::parse(events[i]);
    for (const json& piece : chunk["choices"]) {
      json& whole = choices.emplace(piece["index"].get<int>(), json::object()).first->second;
      for (const auto& [key, value] : piece.items()) {
        if (key == "text") {
          whole[key] = whole.value(key, "") + value.get<std::string>();
        } else if (key == "token_ids" || key == "prompt_token_ids") {
          if (!whole.contains(key)) whole[key] = json::array();
          for (const json& id : value) whole[key].push_back(id);
        } else if (key == "logprobs" && value.is_object()) {
          for (const auto& [name, array] : value.items()) {
            for (const json& entry : array) whole[key][name].push_back(entry);
          }
        } else if (key != "logprobs") {
          whole[key] = value;
        }
      }
    }
  }
  json joined = json::array();
  for (auto& [index, choice] : choices) joined.push_back(choice);
  return joined;
}

GatewayFixture::GatewayFixture(HttpGatewayOptions options, bool adds_bos,
                               const std::function<void(TextService&)>& adapt)
    : tokenizer(adds_bos) {
  options.random = [next = uint64_t{0xFFFFFFFFFFFFFFF0}]() mutable { return next++; };
  options.unix_seconds = []() { return int64_t{1000}; };
  generation.region.groups.push_back({});
  generation.region.groups.back().state = GroupState::kReady;
  text.model_name = "bytes";
  text.tokenizer = &tokenizer;
  text.grammar_bytes = text::grammar::ByteSet::All();
  text.eos_ids = {kEos};
  text.vocab_size = kByteVocabSize;
  text.encode_chat = [this](const nlohmann::ordered_json& variables) {
    std::string rendered;
    for (const auto& message : variables["messages"]) {
      if (message["content"] == "forbidden") {
        Throw(ErrorCode::kInvalidArgument, "roles must alternate");
      }
      rendered += message["role"].get<std::string>() + message.value("name", "") + ":" +
                  message["content"].get<std::string>();
    }
    return tokenizer.Encode(rendered + ">", text::SpecialTokens::kPlainText);
  };
  if (adapt) adapt(text);
  gateway = std::make_unique<HttpGateway>(std::move(options), generation, text, timer, port);
}

GatewayFixture::~GatewayFixture() noexcept = default;

GatewayFixture::Client::Client(GatewayFixture& fixture, kj::Own<kj::AsyncIoStream> stream)
    : fixture_(fixture), stream_(kj::mv(stream)) {}

void GatewayFixture::Client::Send(std::string_view bytes) {
  auto copy = kj::heap<std::string>(bytes);
  auto write = stream_->write(copy->data(), copy->size());
  // Whether the server took it shows in what it answers.
  writing_ = write.attach(kj::mv(copy)).eagerlyEvaluate([](kj::Exception&&) {});
  fixture_.Poll();
}

void GatewayFixture::Client::Request(std::string_view method, std::string_view path,
                                     std::string_view body, std::string_view headers) {
  std::string text = Str(method, " ", path, " HTTP/1.1\r\nHost: test\r\n", headers);
  if (!body.empty()) {
    text += Str("Content-Length: ", body.size(), "\r\n");
    if (headers.find("Content-Type:") == std::string_view::npos) {
      text += "Content-Type: application/json\r\n";
    }
  }
  Send(text + "\r\n" + std::string(body));
}

void GatewayFixture::Client::Read() {
  reading_ = ReadLoop().eagerlyEvaluate([this](kj::Exception&&) { ended_ = true; });
  fixture_.Poll();
}

kj::Promise<void> GatewayFixture::Client::ReadLoop() {
  return stream_->tryRead(buffer_, 1, sizeof(buffer_)).then([this](size_t bytes) {
    ended_ = bytes == 0;
    received_.append(reinterpret_cast<const char*>(buffer_), bytes);
    return bytes == 0 ? kj::Promise<void>(kj::READY_NOW) : ReadLoop();
  });
}

void GatewayFixture::Client::HangUp() {
  reading_ = nullptr;
  writing_ = nullptr;
  stream_ = nullptr;
  fixture_.Poll();
}

void GatewayFixture::Client::EndSending() {
  stream_->shutdownWrite();
  fixture_.Poll();
}

Reply GatewayFixture::Client::TakeReply(bool to_head) {
  fixture_.Poll();
  Reply reply;
  const size_t head_end = received_.find("\r\n\r\n");
  if (head_end == std::string::npos) return reply;
  const std::string head = received_.substr(0, head_end + 2);
  reply.status = std::stoi(head.substr(9, 3));
  size_t line = head.find("\r\n") + 2;
  while (line < head.size()) {
    const size_t colon = head.find(':', line);
    const size_t end = head.find("\r\n", line);
    std::string name = head.substr(line, colon - line);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    reply.headers[name] = head.substr(colon + 2, end - colon - 2);
    line = end + 2;
  }
  size_t at = head_end + 4;
  if (reply.headers.contains("content-length")) {
    const size_t length = to_head ? 0 : std::stoul(reply.headers["content-length"]);
    reply.complete = received_.size() >= at + length;
    reply.body = received_.substr(at, length);
    at += reply.body.size();
  } else if (reply.headers.contains("transfer-encoding")) {
    while (!reply.complete) {
      const size_t end = received_.find("\r\n", at);
      if (end == std::string::npos) break;
      const size_t size = std::stoul(received_.substr(at, end - at), nullptr, 16);
      if (received_.size() < end + 4 + size) break;
      reply.body += received_.substr(end + 2, size);
      at = end + 4 + size;
      reply.complete = size == 0;
    }
  } else {
    reply.complete = ended_ || reply.status == 100;
    if (reply.status != 100) {
      reply.body = received_.substr(at);
      at = received_.size();
    }
  }
  if (reply.complete) received_.erase(0, at);
  return reply;
}

std::unique_ptr<GatewayFixture::Client> GatewayFixture::Connect(bool reading) {
  auto pipe = kj::newTwoWayPipe();
  gateway->Accept(kj::mv(pipe.ends[0]));
  auto client = std::make_unique<Client>(*this, kj::mv(pipe.ends[1]));
  if (reading) client->Read();
  return client;
}

Reply GatewayFixture::Get(std::string_view path, std::string_view headers) {
  auto client = Connect();
  client->Request("GET", path, "", headers);
  return client->TakeReply();
}

Reply GatewayFixture::Post(std::string_view path, std::string_view body, std::string_view headers) {
  auto client = Connect();
  client->Request("POST", path, body, headers);
  Reply reply;
  PollUntil([&] {
    reply = client->TakeReply();
    return reply.complete;
  });
  return reply;
}

bool GatewayFixture::PollUntil(const std::function<bool()>& reached) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!reached()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
    Poll();
  }
  return true;
}

void GatewayFixture::Advance(int64_t milliseconds) {
  for (int64_t passed = 0; passed < milliseconds; passed += 250) {
    timer.advanceTo(timer.now() + 250 * kj::MILLISECONDS);
    Poll();
  }
}

}  // namespace shoal::gateway
