#pragma once

// A region whose tokens the test deals out, a tokenizer of single bytes, and an HTTP client at the
// other end of an in-process pipe, all on virtual time.

#include <kj/async-io.h>
#include <kj/timer.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/api/http_gateway.h"

namespace shoal::gateway {

constexpr int32_t kEos = 256;
constexpr int32_t kBos = 257;
constexpr int32_t kByteVocabSize = 258;

// Ids 0 to 255 are bytes; "<eos>" and "<bos>" are special, only the first is recognised in text.
class ByteTokenizer : public text::Tokenizer {
 public:
  explicit ByteTokenizer(bool adds_bos = false) : adds_bos_(adds_bos) {}
  std::vector<int32_t> EncodeMarked(std::string_view text,
                                    std::span<const text::ByteRange> plain) const override;
  const std::string& bos_text() const override { return bos_text_; }
  const std::string& eos_text() const override { return eos_text_; }
  std::optional<int32_t> bos_to_add() const override;
  std::string TokenBytes(int32_t id, bool skip_special) const override;
  bool IsSpecial(int32_t id) const override { return id == kEos || id == kBos; }
  int32_t vocab_size() const override { return kByteVocabSize; }

  // Called by every encoding, and whenever a token's bytes are looked up, on the thread that does
  // it.
  std::function<void()> on_encode;
  std::function<void()> on_token_bytes;

 private:
  const bool adds_bos_;
  const std::string bos_text_ = "<bos>";
  const std::string eos_text_ = "<eos>";
};

class FakeGeneration : public core::GenerationService {
 public:
  struct Sequence {
    std::vector<int32_t> prompt;
    GenerationParams params;
    core::StreamListener* listener = nullptr;  // Null once ended.
    bool cancelled = false;
    int64_t cached_tokens = 0;  // Said with its next tokens.
    std::string model{};        // That it was submitted for,
    std::string numerics_id{};  // and in which version.
    core::StreamId stream{};
    bool resumable = false;
    bool detached = false;  // Nobody listens, and it goes on.
    RequestTerms terms{};
    bool shares = false;
    std::vector<SequenceUpdate> said{};  // Of a resumable one, for who comes back.
  };

  std::optional<StreamError> PreCheck(const RequestTerms& terms) override {
    checked.push_back(terms);
    return early_refusal;
  }
  std::variant<core::StreamId, StreamError> Submit(core::Request request,
                                                   core::StreamListener& listener) override;
  std::variant<Resumed, StreamError> Resume(core::Request request,
                                            core::StreamListener& listener) override;
  void Detach(core::StreamId stream) override;
  void Cancel(core::StreamId stream) override;
  std::string Drain(uint64_t, bool) override { return "nothing is drained here"; }
  std::vector<ServedModel> models() const override;
  RegionStatus status() const override { return region; }
  ServiceClass ClassOf(const RequestTerms& terms) const override {
    return terms.service_class.value_or(ServiceClass::kCritical);
  }
  bool DegradeAsked() const override { return degrade_asked; }
  RecordPage FindRecords(const RecordQuery& query) const override {
    queries.push_back(query);
    return {.records = records, .now_unix_ms = 2'000, .oldest_unix_ms = 1'000};
  }
  void NoteRecord(core::Record record) override { records.push_back(std::move(record)); }

  // The sequence's next tokens, a byte each; log-probabilities, if asked for, as Logprobs() makes
  // them. `index`: in the order of Submit.
  void Deliver(size_t index, std::string_view bytes);
  void Deliver(size_t index, std::vector<int32_t> tokens);
  void Finish(size_t index, FinishReason reason, std::vector<int32_t> tokens = {});
  // The log-probabilities of its prompt's tokens [begin, end); otherwise all come with its first
  // update.
  void DeliverPrompt(size_t index, size_t begin, size_t end);
  void Fail(size_t index, BusyReason reason);
  // Of a sequence that was resumed: all that was said of it before.
  void Replay(size_t index);
  // The newest sequence of that stream, as an index; none if there is none.
  std::optional<size_t> Find(core::StreamId stream) const;
  // A few ids with log-probabilities that depend on the token alone.
  static TokenLogprobs Logprobs(int32_t token, int32_t top_count);
  std::vector<Sequence> sequences;
  std::optional<StreamError> refusal;        // Of the next Submits,
  std::optional<StreamError> early_refusal;  // and PreChecks.
  std::vector<RequestTerms> checked;         // By PreCheck.
  std::vector<core::Record> records;         // By NoteRecord.
  mutable std::vector<RecordQuery> queries;  // By FindRecords.
  size_t accepted_before_refusal = 0;
  std::map<std::string, BusyReason> refusals;  // Of those for a model of that name.
  ServedModel served{"bytes", "0123456789abcdef0123456789abcdef", 100, 0, 0, 0, "bytes", "", 1};
  bool degrade_asked = false;
  std::vector<ServedModel> others;
  RegionStatus region;
  int32_t resumes = 0;  // Said with each end.

 private:
  void Say(size_t index, SequenceUpdate update);
  SequenceUpdate Update(Sequence& sequence, std::vector<int32_t> tokens);
};

struct Reply {
  int status = 0;
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;                            // Chunks joined.
  bool complete = false;

  nlohmann::json json() const { return nlohmann::json::parse(body); }
  struct Event {
    std::string id, data;  // Without an id: empty.
  };
  // Its server-sent events, in order; comments left out.
  std::vector<Event> all_events() const;
  // Their data.
  std::vector<std::string> events() const;
};

// The choices of a streamed completion, pieced together from its chunks.
nlohmann::json JoinChunks(const Reply& reply);

class GatewayFixture {
 public:
  explicit GatewayFixture(HttpGatewayOptions options = {}, bool adds_bos = false,
                          const std::function<void(TextService&)>& adapt_text = nullptr);
  ~GatewayFixture() noexcept;

  // One connection.
  class Client {
   public:
    Client(GatewayFixture& fixture, kj::Own<kj::AsyncIoStream> stream);
    void Send(std::string_view bytes);
    // "METHOD path HTTP/1.1" with Host; if there is a body, with Content-Length, and as JSON unless
    // `headers` say otherwise.
    void Request(std::string_view method, std::string_view path, std::string_view body = "",
                 std::string_view headers = "");
    // Starts to read; without it the client takes nothing.
    void Read();
    void HangUp();
    void EndSending();  // It still reads.
    // The next whole or partial reply of what was received.
    Reply TakeReply(bool to_head = false);
    const std::string& received() const { return received_; }
    bool ended() const { return ended_; }

   private:
    kj::Promise<void> ReadLoop();

    GatewayFixture& fixture_;
    kj::Own<kj::AsyncIoStream> stream_;
    kj::Promise<void> reading_ = nullptr;
    kj::Promise<void> writing_ = nullptr;
    kj::byte buffer_[4096];
    std::string received_;
    bool ended_ = false;
  };

  std::unique_ptr<Client> Connect(bool reading = true);
  // On a connection of its own, for what is answered without a token.
  Reply Get(std::string_view path, std::string_view headers = "");
  Reply Post(std::string_view path, std::string_view body, std::string_view headers = "");

  void Poll() { wait_scope.poll(); }
  // Until other threads have made it so; false after a minute.
  bool PollUntil(const std::function<bool()>& reached);
  // In small steps, so that every periodic check runs.
  void Advance(int64_t milliseconds);

  kj::UnixEventPort port;
  kj::EventLoop loop{port};
  kj::WaitScope wait_scope{loop};
  kj::TimerImpl timer{kj::origin<kj::TimePoint>()};
  ByteTokenizer tokenizer;
  TextService text;
  FakeGeneration generation;
  std::unique_ptr<HttpGateway> gateway;
};

}  // namespace shoal::gateway
