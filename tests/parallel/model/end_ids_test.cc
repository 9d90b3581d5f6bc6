#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "parallel/model/config/end_ids.h"
#include "tests/parallel/model/refusal.h"

// Which tokens end an answer, from all the places that say so.

namespace shoal::test {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<int32_t> EndIds(const json& metadata) {
  return model::ReadEndIds(metadata, 1000, "m.gguf");
}

json Gguf(const std::vector<std::string>& tokens, const std::vector<int>& types) {
  return {{"tokenizer.ggml.tokens", tokens}, {"tokenizer.ggml.token_type", types}};
}

TEST(EndIds, AreTheUnionOfAllKeysEachOnce) {
  EXPECT_THAT(EndIds({{"config.json", {{"eos_token_id", 2}}},
                      {"generation_config.json", {{"eos_token_id", {2, 5}}}},
                      {"tokenizer_config.json", {{"eos_token", "<end>"}}},
                      {"tokenizer.json",
                       {{"added_tokens", {{{"id", 9}, {"content", "<end>"}, {"special", false}}}},
                        {"model", {{"vocab", {{"a", 1}}}}}}}}),
              ElementsAre(2, 5, 9));
  EXPECT_THAT(EndIds({{"tokenizer.ggml.eos_token_id", 1},
                      {"tokenizer.ggml.eot_token_id", 7},
                      {"tokenizer.ggml.eom_token_id", 1},
                      {"shoal.end_token_ids", {1, 8, 9}}}),
              ElementsAre(1, 7, 8, 9));
  EXPECT_THAT(EndIds(json::object()), IsEmpty());
  EXPECT_THAT(EndIds({{"config.json", {{"eos_token_id", nullptr}}}}), IsEmpty());
}

TEST(EndIds, HoldTheTokenizersEosInEitherForm) {
  const json tokenizer = {{"model", {{"vocab", {{"a", 1}, {"stop", 3}}}}}};
  for (const json& eos : {json("stop"), json{{"content", "stop"}, {"lstrip", false}}}) {
    EXPECT_THAT(
        EndIds({{"tokenizer.json", tokenizer}, {"tokenizer_config.json", {{"eos_token", eos}}}}),
        ElementsAre(3));
  }
  for (const json& eos : {json("unknown"), json(nullptr), json(7)}) {
    EXPECT_THAT(
        EndIds({{"tokenizer.json", tokenizer}, {"tokenizer_config.json", {{"eos_token", eos}}}}),
        IsEmpty());
  }
}

TEST(EndIds, HoldControlTokensThatEndATurn) {
  const std::vector<std::string> tokens = {"a",
                                           "<|im_end|>",
                                           "<|eot_id|>",
                                           "<end_of_turn>",
                                           "</s>",
                                           "<\uff5cend\u2581of\u2581sentence\uff5c>",
                                           "<|im_start|>",
                                           "<|fim_pad|>",
                                           "<|file_sep|>",
                                           "<|end|>"};
  EXPECT_THAT(EndIds(Gguf(tokens, {1, 3, 3, 3, 3, 3, 3, 3, 3, 3})), ElementsAre(1, 2, 3, 4, 5, 9));
  EXPECT_THAT(EndIds(Gguf(tokens, {1, 1, 4, 1, 1, 1, 1, 1, 1, 1})), IsEmpty())
      << "text that looks like it";
  json added;
  for (size_t i = 0; i < tokens.size(); ++i) {
    added.push_back({{"id", i}, {"content", tokens[i]}, {"special", i < 3}});
  }
  EXPECT_THAT(EndIds({{"tokenizer.json", {{"added_tokens", added}}}}), ElementsAre(1, 2));
}

// In Harmony, <|end|> ends a message that another one follows.
TEST(EndIds, DoNotHoldHarmonysEndOfAMessage) {
  EXPECT_THAT(EndIds(Gguf({"<|end|>", "<|return|>"}, {3, 3})), ElementsAre(1));
}

TEST(EndIds, LeaveOutTokensThatNoAnswerCanHave) {
  const json metadata = Gguf({"a", "b", "<|im_end|>"}, {1, 1, 3});
  EXPECT_THAT(model::ReadEndIds(metadata, 3, "m"), ElementsAre(2));
  EXPECT_THAT(model::ReadEndIds(metadata, 2, "m"), IsEmpty());
}

TEST(EndIds, RefuseWhatIsNoId) {
  for (const json& value :
       {json("x"), json(-1), json(1.5), json::array({1, "2"}), json(1LL << 40)}) {
    EXPECT_THAT(RefusalOf([&] {
                  EndIds({{"generation_config.json", {{"eos_token_id", value}}}});
                }),
                HasSubstr("generation_config.json, \"eos_token_id\""));
    EXPECT_THAT(RefusalOf([&] {
                  EndIds({{"tokenizer.ggml.eot_token_id", value}});
                }),
                HasSubstr("eot_token_id"));
  }
}

}  // namespace
}  // namespace shoal::test
