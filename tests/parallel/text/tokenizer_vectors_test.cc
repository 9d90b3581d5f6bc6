// Every tokenizer against the ids and texts that the reference implementation gives: each file of
// vectors with each container that holds its tokenizer.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "parallel/model/model.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "tests/parallel/text/text_fixtures.h"
#include "transport/base/check.h"

namespace shoal::text {
namespace {

using model::TokenizerSource;

struct VectorCase {
  const char* vectors;
  const char* model;  // A folder or GGUF file below the fixtures; null: what SHOAL_SMOLLM2 names.
};

void PrintTo(const VectorCase& value, std::ostream* out) { *out << value.vectors; }

constexpr VectorCase kCases[] = {{"smollm2", nullptr},
                                 {"tiny_smol", "tiny/llama_tied"},
                                 {"tiny_llama3", "tiny/llama"},
                                 {"tiny_llama3", "tiny/llama_v5_config"},
                                 {"tiny_llama3", "tiny/glm4"},
                                 {"tiny_llama3", "tiny/glm4_moe"},
                                 {"tiny_llama3", "tiny/olmo2"},
                                 {"tiny_llama3", "gguf/llama-f32.gguf"},
                                 {"tiny_llama3", "gguf/llama_k-q4_k.gguf"},
                                 {"tiny_llama3", "gguf/llama_v5_config-f16.gguf"},
                                 {"tiny_llama3", "gguf/glm4-f16.gguf"},
                                 {"tiny_llama3", "gguf/glm4_moe-f16.gguf"},
                                 {"tiny_llama3", "gguf/olmo2-bf16.gguf"},
                                 {"tiny_qwen2", "tiny/qwen2"},
                                 {"tiny_qwen2", "tiny/qwen2_moe"},
                                 {"tiny_qwen2", "tiny/qwen3"},
                                 {"tiny_qwen2", "tiny/qwen3_moe"},
                                 {"tiny_qwen2", "gguf/qwen2-f16.gguf"},
                                 {"tiny_qwen2", "gguf/qwen2-q8_0.gguf"},
                                 {"tiny_qwen2", "gguf/qwen2_moe-f16.gguf"},
                                 {"tiny_qwen2", "gguf/qwen3-f32.gguf"},
                                 {"tiny_qwen2", "gguf/qwen3_moe-f16.gguf"},
                                 {"tiny_deepseek", "tiny/deepseek_v2"},
                                 {"tiny_deepseek", "tiny/deepseek_v2_group"},
                                 {"tiny_deepseek", "tiny/deepseek_v3"},
                                 {"tiny_deepseek", "tiny/deepseek_v3_fp8"},
                                 {"tiny_deepseek", "gguf/deepseek_v2_lite-f16.gguf"},
                                 {"tiny_deepseek", "gguf/deepseek_v3-f16.gguf"},
                                 {"tiny_o200k", "tiny/phi3_partial"},
                                 {"tiny_o200k", "tiny/gpt_oss"},
                                 {"tiny_o200k", "tiny/gpt_oss_mxfp4"},
                                 {"tiny_o200k", "gguf/phi3_partial-f16.gguf"},
                                 {"tiny_o200k", "gguf/gpt_oss-f16.gguf"},
                                 {"tiny_o200k", "gguf/gpt_oss_mxfp4-mxfp4.gguf"},
                                 {"tiny_mistral", "tiny/mistral"},
                                 {"tiny_mistral", "tiny/mixtral"},
                                 {"tiny_mistral", "tiny/phi3"},
                                 {"tiny_mistral", "gguf/mistral-f16.gguf"},
                                 {"tiny_mistral", "gguf/mixtral-f16.gguf"},
                                 {"tiny_mistral", "gguf/mixtral-q4_0.gguf"},
                                 {"tiny_mistral", "gguf/phi3-f16.gguf"},
                                 {"tiny_mistral", "gguf/phi3-q5_0.gguf"},
                                 {"tiny_gemma", "tiny/gemma3"},
                                 {"tiny_gemma", "tiny/gemma3_v5_config"},
                                 {"tiny_gemma", "gguf/gemma3-f16.gguf"},
                                 {"deepseek_v3", "tokenizers/deepseek_v3"}};

std::shared_ptr<const Tokenizer> MakeTokenizer(const std::string& path) {
  if (!std::filesystem::is_directory(path)) {
    return Tokenizer::FromMetadata(GgufMetadata(path), TokenizerSource::kGgufMetadata);
  }
  nlohmann::json metadata = FolderMetadata(path);
  // The vectors are of tokenizer.json alone.
  metadata.erase("tokenizer_config.json");
  return Tokenizer::FromMetadata(metadata, TokenizerSource::kTokenizerJson);
}

// One for all tests of it: DeepSeek's takes seconds to make.
std::shared_ptr<const Tokenizer> TokenizerOf(const std::string& path) {
  static std::map<std::string, std::shared_ptr<const Tokenizer>> made;
  auto& tokenizer = made[path];
  if (tokenizer == nullptr) tokenizer = MakeTokenizer(path);
  return tokenizer;
}

class TokenizerVectors : public testing::TestWithParam<VectorCase> {
 protected:
  void SetUp() override {
    if (FixturesFolder().empty()) GTEST_SKIP() << "SHOAL_FIXTURES is not set";
    std::string path;
    if (GetParam().model != nullptr) {
      path = FixturesFolder() + "/" + GetParam().model;
    } else if (const char* smollm2 = std::getenv("SHOAL_SMOLLM2"); smollm2 != nullptr) {
      path = smollm2;
    }
    if (GetParam().model == nullptr && !std::filesystem::exists(path)) {
      GTEST_SKIP() << "SHOAL_SMOLLM2 does not name the SmolLM2 GGUF";
    }
    tokenizer_ = TokenizerOf(path);
    vectors_ =
        ReadJson(FixturesFolder() + "/tokenizers/" + GetParam().vectors + ".json")["vectors"];
    ASSERT_EQ(vectors_.size(), 300u);
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
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
    ASSERT_EQ(tokenizer_->Decode(ids, false, TextStart::kHere), decoded);
    ASSERT_EQ(tokenizer_->Decode(ids, true, TextStart::kHere),
              item.value("decoded_skip_special", decoded));
  }
}

// Token by token, and as the bytes that a grammar counts on.
TEST_P(TokenizerVectors, StreamsWhatItDecodes) {
  for (const auto& item : vectors_) {
    const auto ids = item["ids"].get<std::vector<int32_t>>();
    StreamDecoder decoder(*tokenizer_, false);
    std::string streamed;
    std::string bytes;
    for (const int32_t id : ids) {
      streamed += decoder.Push(id);
      bytes += tokenizer_->TokenBytes(id, false);
    }
    streamed += decoder.Finish();
    ASSERT_EQ(streamed, tokenizer_->Decode(ids, false));
    ASSERT_EQ(streamed, bytes);  // What a text becomes is well formed.
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerVectors, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name = info.param.vectors;
  name += "_";
  for (const char c : std::string_view(info.param.model == nullptr ? "file" : info.param.model)) {
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  return name;
});

// What the fixtures hold and no case above names would go untested unseen.
TEST(TokenizerVectorCases, NameAllThatTheFixturesHold) {
  if (FixturesFolder().empty()) GTEST_SKIP() << "SHOAL_FIXTURES is not set";
  std::set<std::string> named;
  for (const VectorCase& item : kCases) {
    named.insert(Str("tokenizers/", item.vectors, ".json"));
    if (item.model != nullptr) named.insert(item.model);
  }
  std::set<std::string> held;
  for (const char* folder : {"tokenizers", "tiny", "gguf"}) {
    for (const auto& entry : std::filesystem::directory_iterator(FixturesFolder() + "/" + folder)) {
      const std::string name = Str(folder, "/", entry.path().filename().string());
      if (name != "gguf/golden") held.insert(name);
    }
  }
  EXPECT_EQ(named, held);
}

}  // namespace
}  // namespace shoal::text
