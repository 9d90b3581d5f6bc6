// Requests that name one of several models.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/gateway/fakes.h"

namespace shoal::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kCompletions = "/v1/completions";

// "bytes" in two versions, and "other", whose vocabulary is larger.
class TwoModels : public ::testing::Test {
 protected:
  TwoModels() {
    ServedModel newer = fixture_.generation.served;
    newer.numerics_id = "11111111111111111111111111111111";
    ServedModel other{"other", "22222222222222222222222222222222", 50, 40, 500, 3, "other"};
    fixture_.generation.others = {newer, other};
  }

  // The answer to a completion whose tokens are a, b.
  nlohmann::json Complete(std::string_view body) {
    auto client = fixture_.Connect();
    client->Request("POST", kCompletions, body);
    const size_t index = fixture_.generation.sequences.size() - 1;
    fixture_.generation.Finish(index, FinishReason::kLength, {'a', 'b'});
    return client->TakeReply().json();
  }

  GatewayFixture fixture_;
};

TEST_F(TwoModels, AreToldApartByNameAndPinnedToTheVersionThatTheRequestWasReadFor) {
  const auto own = Complete(R"({"prompt":"x"})");
  EXPECT_EQ(own["model"], "bytes");
  EXPECT_EQ(own["system_fingerprint"], "fp_0123456789abcdef");
  const auto other = Complete(R"({"prompt":[1,2],"model":"other","return_token_ids":true})");
  EXPECT_EQ(other["model"], "other");
  EXPECT_EQ(other["system_fingerprint"], "fp_2222222222222222");
  EXPECT_EQ(other["choices"][0]["text"], "");
  EXPECT_EQ(other["choices"][0]["token_ids"], nlohmann::json({'a', 'b'}));
  const auto& sequences = fixture_.generation.sequences;
  EXPECT_EQ(sequences[0].model, "bytes");
  EXPECT_EQ(sequences[0].numerics_id, "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(sequences[1].model, "other");
  EXPECT_EQ(sequences[1].numerics_id, "22222222222222222222222222222222");
  EXPECT_THAT(sequences[1].prompt, ElementsAre(1, 2));
  EXPECT_TRUE(sequences[1].params.stop_ids.empty()) << "its end of sequence is not known here";
}

TEST_F(TwoModels, HaveContextsCachesAndVocabulariesOfTheirOwn) {
  const Reply id = fixture_.Post(kCompletions, R"({"prompt":[500],"model":"other"})");
  EXPECT_EQ(id.status, 400);
  EXPECT_THAT(id.body, HasSubstr("prompt[0] is 500: expected a token id from 0 to 499"));
  const Reply large =
      fixture_.Post(kCompletions, R"({"prompt":[1],"max_tokens":45,"model":"other"})");
  EXPECT_EQ(large.json()["error"]["code"], "kv_cache_exceeded");
  const Reply many = fixture_.Post(kCompletions, R"({"prompt":[1],"n":4,"model":"other"})");
  EXPECT_EQ(many.json()["error"]["code"], "too_large");
}

TEST_F(TwoModels, HaveNoTextButThatOfTheOneWhoseFilesAreRead) {
  for (const auto& [path, body] : std::vector<std::pair<std::string_view, std::string_view>>{
           {kCompletions, R"({"prompt":"x","model":"other"})"},
           {kCompletions, R"({"prompt":[1],"stop":"x","model":"other"})"},
           {"/v1/chat/completions",
            R"({"messages":[{"role":"user","content":"x"}],"model":"other"})"}}) {
    const Reply reply = fixture_.Post(path, body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_EQ(reply.json()["error"]["code"], "no_tokenizer") << body;
    EXPECT_THAT(reply.body, HasSubstr("this coordinator reads the tokenizer of bytes only"));
  }
}

}  // namespace
}  // namespace shoal::gateway
