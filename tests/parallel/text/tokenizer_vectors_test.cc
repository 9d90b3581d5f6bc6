// Every tokenizer against the ids and texts that the reference implementation gives.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "parallel/model/model.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "tests/parallel/text/text_fixtures.h"

namespace shoal::text {
namespace {

using model::TokenizerSource;

struct VectorCase {
  const char* vectors;
  const char* folder;  // Below the fixtures; null: the model SHOAL_SMOLLM2 names.
};

void PrintTo(const VectorCase& value, std::ostream* out) { *out << value.vectors; }

class TokenizerVectors : public testing::TestWithParam<VectorCase> {
 protected:
  void SetUp() override {
    if (FixturesFolder().empty()) GTEST_SKIP() << "SHOAL_FIXTURES is not set";
    if (GetParam().folder != nullptr) {
      nlohmann::json metadata = FolderMetadata(FixturesFolder() + "/" + GetParam().folder);
      // The vectors are of tokenizer.json alone.
      metadata.erase("tokenizer_config.json");
      tokenizer_ = Tokenizer::FromMetadata(metadata, TokenizerSource::kTokenizerJson);
    } else {
      const char* path = std::getenv("SHOAL_SMOLLM2");
      if (path == nullptr || !std::filesystem::exists(path)) {
        GTEST_SKIP() << "SHOAL_SMOLLM2 does not name the SmolLM2 GGUF";
      }
      tokenizer_ = Tokenizer::Make(*model::Model::Open(path));
    }
    vectors_ = ReadJson(FixturesFolder() + "/tokenizers/" + GetParam().vectors)["vectors"];
    ASSERT_EQ(vectors_.size(), 300u);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  nlohmann::ordered_json vectors_;
};

TEST_P(TokenizerVectors, EncodesAsTheReference) {
  for (const auto& item : vectors_) {
    const auto text = item["text"].get<std::string>();
    const auto ids = item["ids"].get<std::vector<int32_t>>();
    ASSERT_EQ(tokenizer_->Encode(text, SpecialTokens::kRecognized), ids) << text;
    auto with_bos = ids;
    if (const auto bos = tokenizer_->bos_to_add()) with_bos.insert(with_bos.begin(), *bos);
    ASSERT_EQ(with_bos, item.value("ids_add_special", ids)) << text;
  }
}

TEST_P(TokenizerVectors, EncodesSpecialTextAsPlainTextWhenAsked) {
  for (const auto& item : vectors_) {
    const auto text = item["text"].get<std::string>();
    const auto ids = item["ids"].get<std::vector<int32_t>>();
    ASSERT_EQ(tokenizer_->Encode(text, SpecialTokens::kPlainText), item.value("ids_plain", ids))
        << text;
  }
}

TEST_P(TokenizerVectors, DecodesAsTheReference) {
  for (const auto& item : vectors_) {
    const auto ids = item["ids"].get<std::vector<int32_t>>();
    const auto decoded = item.value("decoded", item["text"].get<std::string>());
    ASSERT_EQ(tokenizer_->Decode(ids, false), decoded);
    ASSERT_EQ(tokenizer_->Decode(ids, true), item.value("decoded_skip_special", decoded));
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerVectors,
                         testing::Values(VectorCase{"smollm2.json", nullptr},
                                         VectorCase{"tiny_smol.json", "tiny/llama_tied"},
                                         VectorCase{"tiny_llama3.json", "tiny/llama"},
                                         VectorCase{"tiny_qwen2.json", "tiny/qwen2"},
                                         VectorCase{"tiny_deepseek.json", "tiny/deepseek_v3"},
                                         VectorCase{"deepseek_v3.json", "tokenizers/deepseek_v3"}),
                         [](const auto& info) {
                           const std::string name = info.param.vectors;
                           return name.substr(0, name.find('.'));
                         });

}  // namespace
}  // namespace shoal::text
