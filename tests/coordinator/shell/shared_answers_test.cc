// Equal requests through the HTTP gateway, with a region behind it whose one group the test plays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/core/region.h"
#include "tests/coordinator/core/support.h"
#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::string_view kCompletions = "/v1/completions";
constexpr uint64_t kLeader = 1;

// A region of one group that answers what the test has it answer.
class OneGroup : public core::GenerationService {
 public:
  OneGroup() : region_(core::RegionOptions(), clock_, core::MakeTestRandom()) {
    RankRegistration rank = core::MakeRank(1);
    rank.vocab_size = kByteVocabSize;
    rank.sequences_max = 8;
    rank.model_name = "bytes";  // As the text side that is read.
    epoch_ = region_.Register(kLeader, rank).epoch;
    const auto canary = core::Select<core::SubmitAction>(region_.TakeActions()).at(0);
    EXPECT_TRUE(region_.Update(kLeader, epoch_, {core::AnswerCanary(canary)}, {}));
    Run();
  }

  std::optional<StreamError> PreCheck(const RequestTerms& terms) override {
    return region_.PreCheck(terms);
  }
  std::variant<core::StreamId, StreamError> Submit(core::Request request,
                                                   core::StreamListener& listener) override {
    auto outcome = region_.Submit(std::move(request));
    if (const auto* id = std::get_if<core::StreamId>(&outcome)) listeners_[*id] = &listener;
    return outcome;
  }
  std::variant<Resumed, StreamError> Resume(core::Request, core::StreamListener&) override {
    return MakeStreamError(BusyReason::kInvalid, "nothing is resumed here");
  }
  void Detach(core::StreamId stream) override { Cancel(stream); }
  void Cancel(core::StreamId stream) override {
    listeners_.erase(stream);
    region_.Cancel(stream);
  }
  std::string Drain(uint64_t, bool) override { return "nothing is drained here"; }
  std::vector<ServedModel> models() const override { return region_.models(); }
  RegionStatus status() const override { return region_.status(); }
  ServiceClass ClassOf(const RequestTerms& terms) const override {
    return region_.tenants().ClassOf(terms);
  }
  bool DegradeAsked() const override { return region_.DegradeAsked(); }
  RecordPage FindRecords(const RecordQuery& query) const override {
    return region_.recorder().Find(query);
  }
  void NoteRecord(core::Record record) override { region_.recorder().Note(std::move(record)); }

  // Does what the region says.
  void Run() {
    while (region_.has_actions()) {
      for (const core::Action& action : region_.TakeActions()) {
        if (const auto* submit = std::get_if<core::SubmitAction>(&action)) {
          submitted.push_back(submit->request);
        } else if (std::holds_alternative<core::CancelAction>(action)) {
          ++cancelled;
        } else if (const auto* deliver = std::get_if<core::DeliverAction>(&action)) {
          Tell(*deliver);
        }
      }
      EXPECT_EQ(region_.FindBrokenInvariant(), "");
    }
  }

  // The group's next token of the first sequence that it was given.
  void Answer(char byte, FinishReason finish = FinishReason::kNone) {
    SequenceUpdate update;
    update.id = submitted.at(0).id;
    update.tokens_before = said_++;
    update.tokens = {byte};
    update.finish = finish;
    EXPECT_TRUE(region_.Update(kLeader, epoch_, {update}, {}));
    Run();
  }

  std::vector<SequenceRequest> submitted;
  int cancelled = 0;

 private:
  void Tell(const core::DeliverAction& deliver) {
    const auto listener = listeners_.find(deliver.stream);
    if (listener == listeners_.end()) return;
    core::StreamListener& told = *listener->second;
    if (deliver.update.finish == FinishReason::kNone) return told.OnTokens(deliver.update);
    listeners_.erase(listener);
    told.OnFinish(deliver.update);
  }

  core::ManualClock clock_;
  core::Region region_;
  std::map<core::StreamId, core::StreamListener*> listeners_;
  uint64_t epoch_ = 0;
  int64_t said_ = 0;
};

class SharedAnswers : public ::testing::Test {
 protected:
  SharedAnswers() {
    HttpGatewayOptions options;
    options.find_caller = [](std::string_view key) {
      return std::optional(rpc::Caller{.tenant = std::string(key)});
    };
    http_.gateway = std::make_unique<HttpGateway>(std::move(options), group_, http_.text,
                                                  http_.timer, http_.port);
  }
  ~SharedAnswers() override { http_.gateway.reset(); }

  std::unique_ptr<GatewayFixture::Client> Ask(const json& more = json::object(),
                                              const std::string& headers = "") {
    json body = {{"prompt", "hi"}, {"temperature", 0}, {"max_tokens", 8}};
    body.update(more);
    auto client = http_.Connect();
    client->Request("POST", kCompletions, body.dump(), headers);
    http_.Poll();
    group_.Run();
    EXPECT_EQ(client->received(), "");
    return client;
  }

  OneGroup group_;
  GatewayFixture http_;
};

TEST_F(SharedAnswers, AreComputedOnceForAHundredClients) {
  std::vector<std::unique_ptr<GatewayFixture::Client>> clients;
  for (int i = 0; i < 60; ++i) clients.push_back(Ask());
  group_.Answer('a');
  group_.Answer('b');
  for (int i = 0; i < 40; ++i) clients.push_back(Ask());
  group_.Answer('c', FinishReason::kStop);
  EXPECT_THAT(group_.submitted, SizeIs(1));
  std::string first;
  for (auto& client : clients) {
    const Reply reply = client->TakeReply();
    ASSERT_EQ(reply.status, 200) << reply.body;
    json answer = reply.json();
    EXPECT_EQ(answer["choices"][0]["text"], "abc");
    answer.erase("id");
    answer.erase("created");
    if (first.empty()) first = answer.dump();
    EXPECT_EQ(answer.dump(), first);
  }
  EXPECT_EQ(group_.status().requests_coalesced_total, 99);
  EXPECT_NE(http_.Get("/metrics").body.find("shoal_requests_coalesced_total 99"),
            std::string::npos);
}

TEST_F(SharedAnswers, OutliveTheClientThatAskedFirst) {
  auto first = Ask({{"stream", true}});
  auto second = Ask({{"stream", true}});
  auto third = Ask();
  group_.Answer('a');
  first->HangUp();
  first.reset();
  http_.Poll();
  group_.Run();
  EXPECT_EQ(group_.cancelled, 0);
  group_.Answer('b', FinishReason::kStop);
  EXPECT_EQ(JoinChunks(second->TakeReply())[0]["text"], "ab");
  EXPECT_EQ(third->TakeReply().json()["choices"][0]["text"], "ab");
}

TEST_F(SharedAnswers, AreStoppedWhenTheLastClientHangsUp) {
  auto first = Ask();
  auto second = Ask();
  first.reset();
  http_.Poll();
  group_.Run();
  EXPECT_EQ(group_.cancelled, 0);
  second.reset();
  http_.Poll();
  group_.Run();
  EXPECT_EQ(group_.cancelled, 1);
}

// A stop string ends its own client's answer, and nobody else's.
TEST_F(SharedAnswers, EndForEachByItsOwnStopStrings) {
  auto first = Ask({{"stop", "b"}});
  auto second = Ask();
  group_.Answer('a');
  group_.Answer('b');
  EXPECT_EQ(first->TakeReply().json()["choices"][0]["text"], "a");
  EXPECT_EQ(group_.cancelled, 0);
  group_.Answer('c', FinishReason::kStop);
  EXPECT_EQ(second->TakeReply().json()["choices"][0]["text"], "abc");
}

TEST_F(SharedAnswers, AreOfOneTenantAndOfWhatHasOneAnswer) {
  std::vector<std::unique_ptr<GatewayFixture::Client>> clients;
  clients.push_back(Ask(json::object(), "Authorization: Bearer one\r\n"));
  clients.push_back(Ask(json::object(), "Authorization: Bearer two\r\n"));
  EXPECT_THAT(group_.submitted, SizeIs(2));
  clients.push_back(Ask({{"temperature", 1}}));
  clients.push_back(Ask({{"temperature", 1}}));
  EXPECT_THAT(group_.submitted, SizeIs(4)) << "each draws a seed of its own";
  clients.push_back(Ask({{"temperature", 1}, {"seed", 5}, {"n", 2}}));
  EXPECT_THAT(group_.submitted, SizeIs(6)) << "two answers differ";
  clients.push_back(Ask({{"temperature", 1}, {"seed", 5}, {"n", 2}}));
  EXPECT_THAT(group_.submitted, SizeIs(6));
  EXPECT_EQ(group_.status().requests_coalesced_total, 2);
}

}  // namespace
}  // namespace shoal::gateway
