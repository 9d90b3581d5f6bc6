// Generations over RPC that are gone on with: each token and its text once, whoever serves the
// rest.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "coordinator/shell/rpc_gateway.h"
#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;

struct RecordingSink : rpc::GenerationSink {
  void Tokens(const SequenceUpdate& update, const std::string& more) override {
    EXPECT_EQ(update.tokens_before, static_cast<int64_t>(taken + tokens.size()));
    EXPECT_EQ(update.logprobs.size(), has_logprobs ? update.tokens.size() : 0);
    tokens.insert(tokens.end(), update.tokens.begin(), update.tokens.end());
    prompt_logprobs.insert(prompt_logprobs.end(), update.prompt_logprobs.begin(),
                           update.prompt_logprobs.end());
    cached_tokens += update.cached_tokens;
    text += more;
    ++calls;
  }
  void Finish(const SequenceUpdate& update, const std::string& more) override {
    if (!update.tokens.empty()) Tokens(update, "");
    text += more;
    finish = update.finish;
    resumes = update.resumes;
  }
  void Fail(const StreamError& why) override { error = why; }

  size_t taken = 0;  // By another sink before.
  bool has_logprobs = false;
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> prompt_logprobs;
  int64_t cached_tokens = 0;
  std::string text;
  int calls = 0;
  FinishReason finish = FinishReason::kNone;
  int32_t resumes = 0;
  std::optional<StreamError> error;
};

class RpcResume : public ::testing::Test {
 protected:
  RpcResume() { Restart(); }

  // Another coordinator, on which nothing is known but the key.
  void Restart(char key = 'k') {
    gateway_.reset();
    http_.generation.sequences.clear();
    gateway_.emplace(
        http_.generation, http_.text, [this] { return ++random_; }, http_.port,
        std::string(kCursorKeyBytes, key), [this] { return seconds_; });
  }

  rpc::GenerateReply Ask(const rpc::GenerateRequest& request, rpc::GenerationSink& sink) {
    const rpc::Caller caller{.owner = owner_};
    return gateway_->OnGenerate(
        request, std::move(*gateway_->OnPrompt(request, caller).wait(http_.wait_scope)), caller,
        sink);
  }

  static rpc::GenerateRequest Request() {
    rpc::GenerateRequest request;
    request.prompt = "prompt";
    request.params.tokens_max = 90;
    request.resumable = true;
    return request;
  }

  // The reason why a request is refused that goes on with `first`, with a change.
  BusyReason Refused(const std::string& cursor, std::function<void(rpc::GenerateRequest&)> change) {
    rpc::GenerateRequest request = Request();
    request.cursor = cursor;
    change(request);
    RecordingSink sink;
    const rpc::GenerateReply reply = Ask(request, sink);
    EXPECT_EQ(reply.generation, 0U) << "taken";
    return reply.refusal.reason;
  }

  FakeGeneration& generation() { return http_.generation; }

  GatewayFixture http_;
  uint64_t random_ = 100;
  int64_t seconds_ = 1'000;
  std::string owner_;
  std::optional<RpcGateway> gateway_;
};

TEST_F(RpcResume, GoesOnAfterEveryToken) {
  const std::string said = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z\xE2\x82";
  for (const bool restarts : {false, true}) {
    for (size_t taken = 0; taken <= said.size(); ++taken) {
      Restart();
      rpc::GenerateRequest request = Request();
      request.params.top_logprobs = 1;
      request.params.prompt_logprobs = true;
      RecordingSink first;
      first.has_logprobs = true;
      const rpc::GenerateReply begun = Ask(request, first);
      ASSERT_FALSE(begun.cursor.empty());
      generation().sequences[0].cached_tokens = 2;
      for (const char c : said.substr(0, taken)) generation().Deliver(0, std::string(1, c));
      gateway_->OnReaderGone(begun.generation);
      EXPECT_TRUE(generation().sequences[0].detached);
      if (restarts) Restart();

      RecordingSink second;
      second.taken = taken;
      second.has_logprobs = true;
      request.cursor = begun.cursor;
      request.tokens_taken = static_cast<int64_t>(taken);
      request.prompt_logprobs_taken = static_cast<int64_t>(first.prompt_logprobs.size());
      const rpc::GenerateReply resumed = Ask(request, second);
      ASSERT_NE(resumed.generation, 0U) << resumed.refusal.message;
      EXPECT_EQ(resumed.recomputing, restarts);
      EXPECT_EQ(resumed.seed, begun.seed);
      EXPECT_EQ(resumed.prompt_tokens, begun.prompt_tokens);
      if (restarts) generation().sequences[0].cached_tokens = 2;
      restarts ? generation().Deliver(0, said) : generation().Replay(0);
      if (!restarts) generation().Deliver(0, said.substr(taken));
      generation().resumes = 3;
      generation().Finish(0, FinishReason::kStop, {kEos});
      EXPECT_EQ(first.tokens.size() + second.tokens.size(), said.size() + 1);
      EXPECT_EQ(first.text + second.text, said.substr(0, said.size() - 2) + "\xEF\xBF\xBD");
      EXPECT_EQ(first.prompt_logprobs.size() + second.prompt_logprobs.size(), 5U);
      EXPECT_EQ(first.cached_tokens + second.cached_tokens, 2);
      EXPECT_EQ(second.finish, FinishReason::kStop);
      EXPECT_EQ(second.resumes, 3);
    }
  }
}

// So that what a reader counts and the text that it has never part.
TEST_F(RpcResume, SaysALongReplayInParts) {
  generation().served.context_tokens = 10'000;
  rpc::GenerateRequest request = Request();
  request.params.tokens_max = 1'000;
  RecordingSink sink;
  Ask(request, sink);
  generation().Deliver(0, std::string(999, 'x'));
  generation().Finish(0, FinishReason::kLength, {'y'});
  EXPECT_GT(sink.calls, 10);
  EXPECT_EQ(sink.text, std::string(999, 'x') + "y");
}

TEST_F(RpcResume, KeepsWhatIsResumableAndCancelsTheRest) {
  RecordingSink sink;
  rpc::GenerateRequest request = Request();
  gateway_->OnReaderGone(Ask(request, sink).generation);
  gateway_->OnCancel(Ask(request, sink).generation);
  request.resumable = false;
  const rpc::GenerateReply plain = Ask(request, sink);
  EXPECT_EQ(plain.cursor, "");
  gateway_->OnReaderGone(plain.generation);
  EXPECT_TRUE(generation().sequences[0].detached);
  EXPECT_TRUE(generation().sequences[1].cancelled);
  EXPECT_TRUE(generation().sequences[2].cancelled);
}

TEST_F(RpcResume, BelongsToTheNewestReader) {
  RecordingSink first;
  rpc::GenerateRequest request = Request();
  request.cursor = Ask(request, first).cursor;
  RecordingSink second;
  const rpc::GenerateReply reply = Ask(request, second);
  EXPECT_NE(reply.generation, 0U);
  ASSERT_TRUE(first.error.has_value());
  EXPECT_EQ(first.error->reason, BusyReason::kStreamTaken);
  EXPECT_THAT(first.error->message, HasSubstr("another client"));
  EXPECT_EQ(generation().sequences.size(), 1U);
  generation().Finish(0, FinishReason::kStop, {'a', kEos});
  EXPECT_EQ(second.text, "a");
}

TEST_F(RpcResume, SaysWhyACursorIsRefused) {
  RecordingSink sink;
  const std::string cursor = Ask(Request(), sink).cursor;
  const auto mismatch = BusyReason::kCursorMismatch;
  const auto nothing = [](rpc::GenerateRequest&) {};
  EXPECT_EQ(Refused(cursor, [](auto& request) { request.prompt = "other"; }), mismatch);
  EXPECT_EQ(Refused(cursor, [](auto& request) { request.params.tokens_max = 5; }), mismatch);
  EXPECT_EQ(Refused(cursor, [](auto& request) { request.model = "bytes"; }), mismatch);
  EXPECT_EQ(Refused(cursor, [](auto& request) { request.seed_given = true; }), mismatch);
  EXPECT_EQ(Refused(cursor, [](auto& request) { request.tokens_taken = -1; }),
            BusyReason::kInvalid);
  EXPECT_EQ(Refused(cursor + "A", nothing), BusyReason::kCursorInvalid);
  const std::string numerics =
      std::exchange(generation().served.numerics_id, "22222222222222222222222222222222");
  EXPECT_EQ(Refused(cursor, nothing), mismatch);
  generation().served.numerics_id = numerics;
  seconds_ += kCursorSeconds + 1;
  EXPECT_EQ(Refused(cursor, nothing), BusyReason::kCursorExpired);
  Restart('x');
  EXPECT_EQ(Refused(cursor, nothing), BusyReason::kCursorInvalid);
}

TEST_F(RpcResume, KnowsNoCursorOfAnotherCaller) {
  owner_ = "one";
  RecordingSink sink;
  const std::string cursor = Ask(Request(), sink).cursor;
  const auto nothing = [](rpc::GenerateRequest&) {};
  for (const char* other : {"two", ""}) {
    owner_ = other;
    EXPECT_EQ(Refused(cursor, nothing), BusyReason::kCursorMismatch);
  }
  owner_ = "one";
  rpc::GenerateRequest request = Request();
  request.cursor = cursor;
  RecordingSink second;
  EXPECT_NE(Ask(request, second).generation, 0U);
}

TEST_F(RpcResume, RefusesWhatTheReaderCannotHave) {
  RecordingSink first;
  rpc::GenerateRequest request = Request();
  request.cursor = Ask(request, first).cursor;
  request.tokens_taken = 5;
  RecordingSink second;
  Ask(request, second);
  generation().Finish(0, FinishReason::kStop, {'a', kEos});
  ASSERT_TRUE(second.error.has_value());
  EXPECT_EQ(second.error->reason, BusyReason::kCursorMismatch);
}

}  // namespace
}  // namespace shoal::gateway
