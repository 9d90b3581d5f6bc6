// SentencePiece's BPE beyond the golden vectors. The ids of a tokenizer.json are those that Hugging
// Face's tokenizers library (0.23) gives for it.

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

json AddedTokenJson(int id, const char* text, bool special, bool normalized) {
  return {{"id", id}, {"content", text}, {"special", special}, {"normalized", normalized}};
}

const json kLlamaNormalizer = {
    {"type", "Sequence"},
    {"normalizers",
     {{{"type", "Prepend"}, {"prepend", "\u2581"}},
      {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};

json PieceFile() {
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}};
  const json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  return {{"added_tokens",
           {AddedTokenJson(0, "<unk>", true, false), AddedTokenJson(1, "<s>", true, false)}},
          {"normalizer", kLlamaNormalizer},
          {"pre_tokenizer", nullptr},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders", {replace, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true},
            {"vocab",
             {{"<unk>", 0},
              {"<s>", 1},
              {"\u2581", 2},
              {"a", 3},
              {"b", 4},
              {"\u2581\u0061", 5},
              {"ab", 6},
              {"\u2581\u0061\u0062", 7},
              {"\u2581\u2581", 8},
              {"<0xC3>", 9},
              {"<0xA9>", 10},
              {"\u00e9\u0062", 11}}},
            {"merges",
             json::array({json::array({"a", "b"}), "\u2581 a", "\u2581 ab", "\u2581 \u2581"})}}}};
}

json WithMetaspace(const char* scheme, bool split) {
  json file = PieceFile();
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = {{"type", "Metaspace"},
                           {"replacement", "\u2581"},
                           {"prepend_scheme", scheme},
                           {"split", split}};
  return file;
}

std::unique_ptr<Tokenizer> PieceTokenizer(const json& file) {
  return Tokenizer::FromMetadata({{"tokenizer.json", file}}, TokenizerSource::kTokenizerJson);
}

std::vector<int32_t> PieceIds(const json& file, std::string_view text) {
  return PieceTokenizer(file)->Encode(text, SpecialTokens::kRecognized);
}

TEST(SentencePiece, PutsASpaceBeforeEachTextBetweenSpecialTokens) {
  EXPECT_THAT(PieceIds(PieceFile(), ""), ElementsAre());
  EXPECT_THAT(PieceIds(PieceFile(), "ab"), ElementsAre(7));
  EXPECT_THAT(PieceIds(PieceFile(), " ab"), ElementsAre(2, 7));
  EXPECT_THAT(PieceIds(PieceFile(), "  ab"), ElementsAre(8, 7));
  EXPECT_THAT(PieceIds(PieceFile(), "\u2581\u0061\u0062"), ElementsAre(2, 7));
  EXPECT_THAT(PieceIds(PieceFile(), "ab<s>ab"), ElementsAre(7, 1, 7));
  EXPECT_THAT(PieceIds(PieceFile(), "<s> ab"), ElementsAre(1, 2, 7));
}

TEST(SentencePiece, FollowsTheSchemesOfMetaspace) {
  for (const bool split : {false, true}) {
    const json always = WithMetaspace("always", split);
    EXPECT_THAT(PieceIds(always, " ab"), ElementsAre(7));
    EXPECT_THAT(PieceIds(always, "  ab"), ElementsAre(2, 7));
    EXPECT_THAT(PieceIds(always, "ab<s>ab"), ElementsAre(7, 1, 7));
    const json first = WithMetaspace("first", split);
    EXPECT_THAT(PieceIds(first, "ab<s>ab"), ElementsAre(7, 1, 6));
    EXPECT_THAT(PieceIds(first, "<s>ab"), ElementsAre(1, 6));
    EXPECT_THAT(PieceIds(first, "ab ab"), ElementsAre(7, 7));
    const json never = WithMetaspace("never", split);
    EXPECT_THAT(PieceIds(never, "ab ab"), ElementsAre(6, 7));
  }
}

TEST(SentencePiece, FallsBackOnBytesAndThenOnTheUnknownToken) {
  EXPECT_THAT(PieceIds(PieceFile(), "\u00e9"), ElementsAre(2, 9, 10));
  EXPECT_THAT(PieceIds(PieceFile(), "xx"), ElementsAre(2, 0));
  // The library lets bytes pass an unknown token that waits for a character.
  EXPECT_THAT(PieceIds(PieceFile(), "a\u00e9xy\u00e9 b"), ElementsAre(5, 9, 10, 9, 10, 0, 2, 4));
  json file = PieceFile();
  file["model"]["fuse_unk"] = false;
  EXPECT_THAT(PieceIds(file, "a\u00e9xy\u00e9 b"), ElementsAre(5, 9, 10, 0, 9, 10, 0, 2, 4));
  file = PieceFile();
  file["model"]["byte_fallback"] = false;
  EXPECT_THAT(PieceIds(file, "a\u00e9xy\u00e9 b"), ElementsAre(5, 0, 2, 4));
  file = PieceFile();
  file["model"]["unk_token"] = nullptr;
  EXPECT_THAT(PieceIds(file, "a\u00e9xy\u00e9 b"), ElementsAre(5, 9, 10, 9, 10, 2, 4));
  EXPECT_THAT(PieceIds(PieceFile(), "a\xC3"), ElementsAre(5, 9));
}

TEST(SentencePiece, NormalizesTheAddedTokensThatAskForIt) {
  json file = PieceFile();
  file["added_tokens"].push_back(AddedTokenJson(12, "<u>", false, true));
  EXPECT_THAT(PieceIds(file, "ab<u>ab"), ElementsAre(7, 0, 6));
  EXPECT_THAT(PieceIds(file, " <u>ab"), ElementsAre(2, 12, 6));
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = WithMetaspace("always", false)["pre_tokenizer"];
  EXPECT_THAT(PieceIds(file, " <u>ab"), ElementsAre(2, 12, 7));
  file["pre_tokenizer"]["prepend_scheme"] = "first";
  EXPECT_THAT(PieceIds(file, "ab<u>ab"), ElementsAre(7, 12, 6));
}

TEST(SentencePiece, KeepsSpecialTextPlainAfterItsSpacesAreMarked) {
  json file = PieceFile();
  file["added_tokens"][1]["normalized"] = true;
  const auto tokenizer = PieceTokenizer(file);
  const ByteRange plain[] = {{1, 4}};
  EXPECT_THAT(tokenizer->EncodeMarked(" <s> <s>", {}), ElementsAre(2, 1, 1));
  EXPECT_THAT(tokenizer->EncodeMarked(" <s> <s>", plain), ElementsAre(8, 0, 1));
}

TEST(SentencePiece, DropsTheSpaceOfATextsStartOnly) {
  const auto tokenizer = PieceTokenizer(PieceFile());
  const std::vector<int32_t> ids = {7, 7, 2, 9, 10};
  EXPECT_EQ(tokenizer->Decode(ids, false, TextStart::kHere), "ab ab \u00e9");
  EXPECT_EQ(tokenizer->Decode(ids, false), " ab ab \u00e9");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{1, 7}, true, TextStart::kHere), "ab");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{1, 7}, false, TextStart::kHere), "<s> ab");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{2, 2, 7}, true, TextStart::kHere), "  ab");
}

TEST(SentencePiece, StreamsCharactersOnceAllTheirBytesAreThere) {
  const auto tokenizer = PieceTokenizer(PieceFile());
  StreamDecoder decoder(*tokenizer, false, TextStart::kHere);
  EXPECT_EQ(decoder.Push(2), "");
  EXPECT_EQ(decoder.Push(9), "");
  EXPECT_EQ(decoder.Push(10), "\u00e9");
  EXPECT_EQ(decoder.Push(9), "");
  EXPECT_EQ(decoder.Push(3), "\uFFFDa");
  EXPECT_EQ(decoder.Push(9), "");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
}

std::string RefusalOfFile(const json& file) {
  try {
    PieceTokenizer(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "nothing was refused";
}

TEST(SentencePiece, NamesThePartThatItDoesNotKnow) {
  json file = PieceFile();
  file["normalizer"]["normalizers"].push_back({{"type", "Lowercase"}});
  EXPECT_THAT(RefusalOfFile(file), HasSubstr("normalizer: found Lowercase"));
  file = PieceFile();
  file["normalizer"]["normalizers"].erase(1);
  EXPECT_THAT(RefusalOfFile(file), HasSubstr("found a Prepend alone"));
  file = PieceFile();
  file["decoder"]["decoders"].erase(1);
  EXPECT_THAT(RefusalOfFile(file), HasSubstr("decoder: found {\"type\":\"Fuse\"}"));
  file = PieceFile();
  file["decoder"] = nullptr;
  EXPECT_THAT(RefusalOfFile(file), HasSubstr("decoder: found nothing"));
  file = PieceFile();
  file["model"]["unk_token"] = "<none>";
  EXPECT_THAT(RefusalOfFile(file), HasSubstr("model.unk_token"));
  file = WithMetaspace("sometimes", false);
  EXPECT_THAT(RefusalOfFile(file), HasSubstr("prepend_scheme: found sometimes"));
  file = PieceFile();
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"Sequence", {{"id", "A"}}}}, {{"SpecialToken", {{"id", "<s>"}}}}}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}}}}}};
  EXPECT_THAT(RefusalOfFile(file), HasSubstr("a token after the text"));
}

// 0 <unk>, 1 <s>, 2 </s>, 3 <0xC3>, 4 <0xA9>, 5 mark, 6 "a", 7 "b", 8 "ab", 9 mark "a", 10 mark
// "ab", 11 the user-defined two marks, 12 the unused "ba".
json PieceGguf() {
  return {{"tokenizer.ggml.model", "llama"},
          {"tokenizer.ggml.pre", "default"},
          {"tokenizer.ggml.tokens",
           {"<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "\u2581", "a", "b", "ab", "\u2581\u0061",
            "\u2581\u0061\u0062", "\u2581\u2581", "ba"}},
          {"tokenizer.ggml.scores", {0, 0, 0, 0, 0, -9, -9, -9, -2, -1, -3, -5, 0}},
          {"tokenizer.ggml.token_type", {2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 4, 5}},
          {"tokenizer.ggml.unknown_token_id", 0},
          {"tokenizer.ggml.bos_token_id", 1},
          {"tokenizer.ggml.eos_token_id", 2}};
}

std::vector<int32_t> GgufIds(const json& metadata, std::string_view text) {
  return Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata)
      ->Encode(text, SpecialTokens::kRecognized);
}

TEST(SentencePieceGguf, MergesByScoreWithoutAListOfMerges) {
  EXPECT_THAT(GgufIds(PieceGguf(), "ab"), ElementsAre(10));
  json metadata = PieceGguf();
  metadata["tokenizer.ggml.token_type"][10] = 5;            // Without the whole:
  EXPECT_THAT(GgufIds(metadata, "ab"), ElementsAre(9, 7));  // mark and "a" come before "ab",
  metadata["tokenizer.ggml.scores"][9] = -4;
  EXPECT_THAT(GgufIds(metadata, "ab"), ElementsAre(5, 8));  // or after it.
  metadata["tokenizer.ggml.scores"][9] = -2;
  EXPECT_THAT(GgufIds(metadata, "ab"), ElementsAre(9, 7));  // Of equal scores the leftmost.
}

TEST(SentencePieceGguf, TakesUserDefinedSymbolsFirstAndNoUnusedOnes) {
  EXPECT_THAT(GgufIds(PieceGguf(), "b  b"), ElementsAre(5, 7, 11, 5, 7));
  json metadata = PieceGguf();
  metadata["tokenizer.ggml.add_space_prefix"] = false;
  EXPECT_THAT(GgufIds(metadata, "b  ba"), ElementsAre(7, 11, 7, 6));
  EXPECT_THAT(GgufIds(metadata, "<s>a\u00e9x"), ElementsAre(1, 6, 3, 4, 0));
}

TEST(SentencePieceGguf, AddsABosAndASpaceUnlessTheFileSaysOtherwise) {
  json metadata = PieceGguf();
  const auto make = [&] {
    return Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata);
  };
  EXPECT_EQ(make()->bos_to_add(), 1);
  EXPECT_TRUE(make()->drops_first_space());
  EXPECT_EQ(make()->TokenBytes(10, true), " ab");
  EXPECT_EQ(make()->TokenBytes(11, true), "  ");
  EXPECT_EQ(make()->TokenBytes(3, true), "\xC3");
  metadata["tokenizer.ggml.add_bos_token"] = false;
  metadata["tokenizer.ggml.add_space_prefix"] = false;
  EXPECT_EQ(make()->bos_to_add(), std::nullopt);
  EXPECT_FALSE(make()->drops_first_space());
}

TEST(SentencePieceGguf, NamesWhatItRefuses) {
  const auto refusal = [](const char* key, const json& value) {
    json metadata = PieceGguf();
    metadata[std::string("tokenizer.ggml.") + key] = value;
    try {
      Tokenizer::FromMetadata(metadata, TokenizerSource::kGgufMetadata);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  EXPECT_THAT(refusal("scores", json::array()), HasSubstr("expected one for each of 13 tokens"));
  json scores = PieceGguf()["tokenizer.ggml.scores"];
  scores[4] = "x";
  EXPECT_THAT(refusal("scores", scores), HasSubstr("scores[4]: expected a number, found string"));
  json tokens = PieceGguf()["tokenizer.ggml.tokens"];
  tokens[3] = "<0xG1>";
  EXPECT_THAT(refusal("tokens", tokens), HasSubstr("tokens[3]: expected a byte as in <0x0A>"));
  tokens = PieceGguf()["tokenizer.ggml.tokens"];
  tokens[8] = std::string(2000, 'a');
  EXPECT_THAT(refusal("tokens", tokens), HasSubstr("tokens[8]: expected at most 1024 bytes"));
  EXPECT_THAT(refusal("pre", "qwen2"), HasSubstr("pre: expected default"));
  EXPECT_THAT(refusal("add_eos_token", true), HasSubstr("add_eos_token"));
  EXPECT_THAT(refusal("unknown_token_id", 99), HasSubstr("token id below 13, found 99"));
}

}  // namespace
}  // namespace shoal::text
