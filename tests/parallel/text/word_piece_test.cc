// WordPiece against what Hugging Face's tokenizers library (0.23) gives for a small vocabulary of
// its own training, under each setting of BERT's normalizer, from both containers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "parallel/model/model.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "tests/parallel/text/text_fixtures.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using model::TokenizerSource;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const nlohmann::ordered_json& WordPieceGolden() {
  static const nlohmann::ordered_json golden =
      ReadJson(std::string(SHOAL_SOURCE_DIR) + "/tests/golden/word_piece.json");
  return golden;
}

json WordPieceFile() { return json::parse(WordPieceGolden()["tokenizer"].dump()); }

std::unique_ptr<Tokenizer> OfFile(const json& file) {
  return Tokenizer::FromMetadata({{"tokenizer.json", file}}, TokenizerSource::kTokenizerJson);
}

// The same vocabulary as the converter of llama.cpp writes it.
json WordPieceGguf(const json& file) {
  json tokens(std::vector<std::string>(file["model"]["vocab"].size()));
  json types(std::vector<int>(tokens.size(), 1));
  for (const auto& [text, id] : file["model"]["vocab"].items()) {
    const bool goes_on = text.starts_with("##");
    tokens[id.get<size_t>()] = goes_on ? text.substr(2) : "\u2581" + text;
  }
  for (const json& added : file["added_tokens"]) {
    tokens[added["id"].get<size_t>()] = added["content"];
    types[added["id"].get<size_t>()] = 3;
  }
  return {{"tokenizer.ggml.model", "bert"},      {"tokenizer.ggml.tokens", tokens},
          {"tokenizer.ggml.token_type", types},  {"tokenizer.ggml.token_type_count", 2},
          {"tokenizer.ggml.bos_token_id", 2},    {"tokenizer.ggml.seperator_token_id", 3},
          {"tokenizer.ggml.unknown_token_id", 1}};
}

void ExpectVectors(const Tokenizer& tokenizer, const nlohmann::ordered_json& vectors) {
  for (const auto& item : vectors) {
    const auto text = item["text"].get<std::string>();
    const auto ids = item["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kRecognized), ids) << text;
    // The library leaves the ## of a text's first piece alone, which no whole text begins with.
    const auto decoded = item["decoded"].get<std::string>();
    if (decoded.starts_with("##")) continue;
    EXPECT_EQ(tokenizer.Decode(ids, false, TextStart::kHere), decoded);
    EXPECT_EQ(tokenizer.Decode(ids, true, TextStart::kHere),
              item.value("decoded_skip_special", decoded));
  }
}

TEST(WordPiece, EncodesAndDecodesAsTheReference) {
  json file = WordPieceFile();
  for (const auto& group : WordPieceGolden()["groups"]) {
    file["normalizer"] = json::parse(group["normalizer"].dump());
    SCOPED_TRACE(file["normalizer"].dump());
    const auto tokenizer = OfFile(file);
    EXPECT_EQ(tokenizer->bos_to_add(), 2);
    EXPECT_EQ(tokenizer->eos_to_add(), 3);
    ASSERT_GE(group["vectors"].size(), 40u);
    ExpectVectors(*tokenizer, group["vectors"]);
  }
}

// Without the texts with U+2581: as a mark, it hides what of the vocabulary holds it.
nlohmann::ordered_json WithoutMarks(const nlohmann::ordered_json& vectors) {
  nlohmann::ordered_json kept = nlohmann::ordered_json::array();
  for (const auto& item : vectors) {
    if (item["text"].get<std::string>().find("\u2581") == std::string::npos) kept.push_back(item);
  }
  return kept;
}

TEST(WordPiece, IsTheSameFromGguf) {
  const auto tokenizer =
      Tokenizer::FromMetadata(WordPieceGguf(WordPieceFile()), TokenizerSource::kGgufMetadata);
  EXPECT_EQ(tokenizer->bos_to_add(), 2);
  EXPECT_EQ(tokenizer->eos_to_add(), 3);
  EXPECT_EQ(tokenizer->bos_text(), "[CLS]");
  ExpectVectors(*tokenizer, WithoutMarks(WordPieceGolden()["groups"][0]["vectors"]));
  json metadata = WordPieceGguf(WordPieceFile());
  metadata["tokenizer.ggml.normalizer.lowercase"] = false;
  metadata["tokenizer.ggml.normalizer.strip_accents"] = false;
  ExpectVectors(*Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata),
                WithoutMarks(WordPieceGolden()["groups"][1]["vectors"]));
}

TEST(WordPiece, CountsTheCharactersOfAWord) {
  json file = WordPieceFile();
  const int32_t unknown = 1;
  file["model"]["max_input_chars_per_word"] = 3;
  EXPECT_NE(OfFile(file)->Encode("\u00e9\u00e9\u00e9", SpecialTokens::kRecognized)[0], unknown);
  EXPECT_THAT(OfFile(file)->Encode("eeee", SpecialTokens::kRecognized), ElementsAre(unknown));
}

TEST(WordPiece, RecognizesSpecialTextOnlyWhereItIsNotPlain) {
  json file = WordPieceFile();
  const auto vocab = file["model"]["vocab"];
  for (json& added : file["added_tokens"]) added["normalized"] = true;
  for (const bool normalized : {false, true}) {
    // "[sep]" after normalization, which only tokens that are normalized too can meet.
    const auto tokenizer = OfFile(normalized ? file : WordPieceFile());
    const ByteRange plain[] = {{0, 5}};
    const auto ids = tokenizer->EncodeMarked("[SEP][SEP]", plain);
    EXPECT_EQ(ids.back(), 3);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 3), 1);
    EXPECT_EQ(ids.front(), vocab["["].get<int32_t>());
  }
}

TEST(WordPiece, NamesWhatItRefuses) {
  const auto refusal = [](const char* part, const json& value) {
    json file = WordPieceFile();
    file[json::json_pointer(part)] = value;
    try {
      OfFile(file);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  json bert = {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}};
  EXPECT_THAT(refusal("/post_processor", bert), "nothing was refused");
  bert["cls"] = {"[CLS]"};
  EXPECT_THAT(refusal("/post_processor", bert), HasSubstr("post_processor.cls"));
  EXPECT_THAT(refusal("/normalizer", nullptr), HasSubstr("normalizer: found nothing"));
  EXPECT_THAT(refusal("/pre_tokenizer/type", "Whitespace"), HasSubstr("found Whitespace"));
  EXPECT_THAT(refusal("/decoder/prefix", "@@"), HasSubstr("decoder.prefix: found @@"));
  EXPECT_THAT(refusal("/model/unk_token", "[NONE]"), HasSubstr("model.unk_token: found [NONE]"));
  EXPECT_THAT(refusal("/model/max_input_chars_per_word", -1), HasSubstr("found -1"));
  json metadata = WordPieceGguf(WordPieceFile());
  metadata.erase("tokenizer.ggml.seperator_token_id");
  metadata["tokenizer.ggml.tokens"] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
  metadata["tokenizer.ggml.token_type"] = {3, 3, 3, 3};
  try {
    Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata);
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("seperator_token_id: expected a token id below 4"));
  }
}

}  // namespace
}  // namespace shoal::text
