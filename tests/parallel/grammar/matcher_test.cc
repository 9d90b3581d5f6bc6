// Masks over vocabularies: exact, the same whatever was asked before, and always with a way on.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "parallel/model/model.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "tests/parallel/grammar/support.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

using testing::HasSubstr;

constexpr char kPerson[] =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":12},)"
    R"("age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":)"
    R"({"enum":["red","blue"]}},"extra":{}},"required":["name","age"]})";

std::vector<GrammarSource> Sources() {
  return {Schema(kPerson),
          {GrammarKind::kJsonObject, ""},
          {GrammarKind::kChoice, R"(["true","tru","blue red"])"},
          Regex("([a-c]{2,5}|the quick)( .{0,3})?"),
          Regex("[^\"]*"),
          Regex(".*\"x"),
          Schema(R"({"type":"object","properties":{"a":{}},"additionalProperties":true})"),
          Schema(R"({"type":"string","pattern":"^(\\d|e)+$"})")};
}

// The model's own vocabulary, where the model is there.
std::shared_ptr<const GrammarVocabulary> SmolLm2Vocabulary() {
  const char* path = std::getenv("SHOAL_SMOLLM2");
  if (path == nullptr) return nullptr;
  return GrammarVocabulary::Make(*model::Model::Open(path));
}

TEST(GrammarMatcher, AllowsExactlyTheTokensThatItAccepts) {
  for (const GrammarSource& source : Sources()) {
    const auto grammar = Masked(source);
    test::RandomBits random(1);
    GrammarMatcher matcher(grammar);
    for (int step = 0; step < 60 && !matcher.ended(); ++step) {
      const auto mask = matcher.Allowed();
      std::vector<int32_t> allowed;
      for (int32_t token = 0; token < grammar->vocabulary().size(); ++token) {
        GrammarMatcher copy = matcher;
        ASSERT_EQ(mask->Has(token), copy.Accept(token)) << source.text << " token " << token;
        if (mask->Has(token)) allowed.push_back(token);
      }
      ASSERT_FALSE(allowed.empty());
      ASSERT_TRUE(matcher.Accept(allowed[random.Below(allowed.size())]));
    }
  }
}

TEST(GrammarMatcher, AllowsTheEndExactlyWhereTheTextMatchesAndOnlyTheEndAfterIt) {
  const auto grammar = Masked({GrammarKind::kChoice, R"(["tru","true"])"});
  const GrammarVocabulary& vocabulary = grammar->vocabulary();
  const int32_t end = vocabulary.end_ids()[0];
  GrammarMatcher matcher(grammar);
  EXPECT_FALSE(matcher.Allowed()->Has(end));
  EXPECT_FALSE(matcher.Accept(end));
  EXPECT_TRUE(matcher.Accept(GreedyEncoder(vocabulary).Encode("tru")[0]));
  EXPECT_TRUE(matcher.Allowed()->Has(end));
  GrammarMatcher longer = matcher;
  EXPECT_TRUE(longer.Accept('e'));  // Bytes are the first tokens.
  const auto only_end = longer.Allowed();
  EXPECT_TRUE(matcher.Accept(end));
  EXPECT_TRUE(matcher.ended());
  EXPECT_TRUE(matcher.Accept(end));
  EXPECT_FALSE(matcher.Accept('e'));
  const auto ended = matcher.Allowed();
  for (int32_t token = 0; token < vocabulary.size(); ++token) {
    EXPECT_EQ(only_end->Has(token), token == end) << token;
    EXPECT_EQ(ended->Has(token), token == end) << token;
  }
}

TEST(GrammarMatcher, NeverAllowsOtherSpecialTokensNorPadding) {
  const auto grammar = Masked(Regex("(.|\\n)*"));
  const int32_t size = grammar->vocabulary().size();
  const auto mask = GrammarMatcher(grammar).Allowed();
  EXPECT_TRUE(mask->Has(size - 2));  // The end token.
  for (const int32_t token : {size - 3, size - 1}) EXPECT_FALSE(mask->Has(token));
  GrammarMatcher matcher(grammar);
  for (const int32_t token : {-1, size - 3, size - 1, size, INT32_MAX}) {
    EXPECT_FALSE(matcher.Accept(token));
  }
}

TEST(GrammarMatcher, MakesValidAnswersOfRandomSchemas) {
  test::RandomBits random(7);
  int answers = 0;
  for (int i = 0; i < 150; ++i) {
    const Json schema = RandomSchema(random, 1 + static_cast<int>(random.Below(3)));
    const auto grammar = Masked(Schema(schema.dump()));
    for (int walk = 0; walk < 4; ++walk) {
      const auto text = RandomAnswer(grammar, random, 400);
      if (!text) continue;
      ++answers;
      const Json value = Json::parse(*text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << *text << " of " << schema;
      EXPECT_TRUE(IsValid(schema, value, schema)) << *text << " of " << schema;
    }
  }
  EXPECT_GT(answers, 300);
}

TEST(GrammarMatcher, ReachesEveryAnswerByAnyOfItsTokenizations) {
  const std::pair<GrammarSource, std::string> cases[] = {
      {Schema(kPerson), R"({"name":"the quick","age":12})"},
      {Schema(kPerson),
       "{\n  \"name\": \"x\\\"\xC3\xA9\xF0\x9F\x98\x80\",\n  \"age\": 0,\n  \"tags\": "
       "[\"red\", \"blue\"],\n  \"extra\": {\"a\":1.5e+3}\n}"},
      {{GrammarKind::kJsonObject, ""}, R"({"a":[[]],"":{},"zz":"\u00e9"})"},
      {Regex("(\\w+ )*\\w+"), "the quick abc name"},
      {{GrammarKind::kChoice, R"(["red","blue"])"}, "blue"},
  };
  for (const auto& vocabulary : {TinyVocabulary(), SmolLm2Vocabulary()}) {
    if (vocabulary == nullptr) continue;
    const GreedyEncoder encoder(*vocabulary);
    for (const auto& [source, text] : cases) {
      const auto grammar = Masked(source, vocabulary);
      GrammarMatcher by_byte(grammar);
      for (const char byte : text) {
        const int32_t token = encoder.Encode(std::string(1, byte))[0];
        ASSERT_TRUE(by_byte.Allowed()->Has(token)) << text;
        ASSERT_TRUE(by_byte.Accept(token));
      }
      EXPECT_TRUE(by_byte.Allowed()->Has(vocabulary->end_ids()[0])) << text;
      GrammarMatcher greedy(grammar);
      for (const int32_t token : encoder.Encode(text)) {
        ASSERT_TRUE(greedy.Allowed()->Has(token)) << text << " at " << vocabulary->bytes(token);
        ASSERT_TRUE(greedy.Accept(token));
      }
      EXPECT_TRUE(greedy.Allowed()->Has(vocabulary->end_ids()[0])) << text;
    }
  }
}

TEST(GrammarMatcher, GivesTheSameMasksWhateverWasAskedBefore) {
  for (const GrammarSource& source : Sources()) {
    const auto used = Masked(source);
    test::RandomBits random(3);
    for (int i = 0; i < 20; ++i) RandomAnswer(used, random, 60);
    test::RandomBits walk(4);
    GrammarMatcher a(used);
    GrammarMatcher b(Masked(source));
    for (int step = 0; step < 60 && !a.ended(); ++step) {
      const auto mask = a.Allowed();
      ASSERT_EQ(mask->words, b.Allowed()->words) << source.text;
      int32_t token =
          static_cast<int32_t>(walk.Below(static_cast<uint64_t>(used->vocabulary().size())));
      while (!mask->Has(token)) token = (token + 1) % used->vocabulary().size();
      ASSERT_TRUE(a.Accept(token));
      ASSERT_TRUE(b.Accept(token));
    }
  }
}

TEST(GrammarMatcher, KeepsItsMemoryBoundedAndItsMasksThroughRenewals) {
  // Every count of every nesting is a state of its own.
  const GrammarSource source = Regex("((a{1,900}b?){1,9000}c){2}");
  const auto grammar = Masked(source);
  GrammarMatcher early(grammar);
  ASSERT_TRUE(early.Accept('a'));
  GrammarMatcher matcher(grammar);
  size_t largest = 0;
  bool renewed = false;
  for (int i = 0; i < 2500; ++i) {
    ASSERT_TRUE(matcher.Accept('a'));
    ASSERT_TRUE(matcher.Allowed()->Has('a'));
    const size_t bytes = grammar->memory_bytes();
    ASSERT_LT(bytes, size_t{12} << 20);
    renewed = renewed || bytes < largest;
    largest = std::max(largest, bytes);
  }
  EXPECT_TRUE(renewed);
  GrammarMatcher fresh(Masked(source));
  ASSERT_TRUE(fresh.Accept('a'));
  EXPECT_EQ(early.Allowed()->words, fresh.Allowed()->words);
  for (int i = 1; i < 2500; ++i) ASSERT_TRUE(fresh.Accept('a'));
  EXPECT_EQ(matcher.Allowed()->words, fresh.Allowed()->words);
}

TEST(GrammarMatcher, EndsItsWorkOnAmbiguousExpressions) {
  const auto alternatives = [](const char* first, const char* others, int count) {
    std::string result = Str("(", first);
    for (int i = 0; i < count; ++i) result += Str("|", others);
    return result + "){0,10000}c";
  };
  // Each would take exponential time by backtracking, or a counter for every way to count.
  const std::string patterns[] = {"(a+)+b",
                                  "((a{1,300}){1,300}){1,300}b",
                                  "(a|aa|aaa|[a-z]+)*c",
                                  "(.*a.{20})*b",
                                  "((a?){1,9999}){1,9999}b",
                                  alternatives("a?", "b", 29'000),
                                  alternatives("a?", "a?", 15'000),
                                  "(([^\\s\\S]?a?){0,10000}){0,10000}b"};
  for (const std::string& pattern : patterns) {
    const auto grammar = Masked(Regex(pattern));
    GrammarMatcher matcher(grammar);
    for (int i = 0; i < 300; ++i) {
      ASSERT_TRUE(matcher.Allowed()->Has('a')) << pattern;
      ASSERT_TRUE(matcher.Accept('a')) << pattern;
      ASSERT_LT(grammar->memory_bytes(), size_t{64} << 20) << pattern;
    }
  }
}

TEST(GrammarMatcher, RefusesAVocabularyThatCannotEndAnAnswer) {
  const auto vocabulary = std::make_shared<const GrammarVocabulary>(std::vector<std::string>{"a"},
                                                                    std::vector<int32_t>{});
  try {
    Masked(Regex("a*"), vocabulary);
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("end-of-sequence"));
  }
}

TEST(GrammarVocabulary, HoldsTheBytesOfTheTokenizerOfTheRealModel) {
  const char* path = std::getenv("SHOAL_SMOLLM2");
  if (path == nullptr) GTEST_SKIP() << "SHOAL_SMOLLM2 names no model";
  const auto model = model::Model::Open(path);
  const auto tokenizer = Tokenizer::Make(*model);
  const auto vocabulary = GrammarVocabulary::Make(*model);
  ASSERT_EQ(vocabulary->size(), model->config().vocab_size);
  for (int32_t token = 0; token < vocabulary->size(); ++token) {
    ASSERT_EQ(vocabulary->bytes(token), tokenizer->TokenBytes(token, true)) << token;
  }
  EXPECT_EQ(vocabulary->single_bytes(), SingleBytes(*tokenizer, vocabulary->size()));
  EXPECT_FALSE(SingleBytes(*tokenizer, 20) == vocabulary->single_bytes())
      << "a byte whose token the model has no row for cannot be chosen";
}

// Characters without a token are written byte by byte there, each byte a token.
TEST(GrammarVocabulary, KnowsTheBytesThatASentencePieceModelFallsBackOn) {
  const char* folder = std::getenv("SHOAL_FIXTURES");
  if (folder == nullptr) GTEST_SKIP() << "SHOAL_FIXTURES is not set";
  const auto model = model::Model::Open(std::string(folder) + "/gguf/mistral-f16.gguf");
  const auto tokenizer = Tokenizer::Make(*model);
  const auto vocabulary = GrammarVocabulary::Make(*model);
  for (int32_t token = 0; token < vocabulary->size(); ++token) {
    if (vocabulary->IsEnd(token)) continue;
    ASSERT_EQ(vocabulary->bytes(token), tokenizer->TokenBytes(token, true)) << token;
  }
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_TRUE(vocabulary->single_bytes().Has(static_cast<uint8_t>(byte))) << byte;
  }
  const auto ids = tokenizer->Encode("\u2603", SpecialTokens::kPlainText);
  ASSERT_EQ(ids.size(), 4u);  // The space in front of a text, and three bytes.
  GrammarMatcher matcher(Masked(Regex("\u2603"), vocabulary));
  for (const int32_t id : std::span(ids).subspan(1)) {
    EXPECT_TRUE(matcher.Allowed()->Has(id));
    EXPECT_FALSE(matcher.Allowed()->Has(ids[0]));
    ASSERT_TRUE(matcher.Accept(id));
  }
  EXPECT_TRUE(matcher.Allowed()->Has(vocabulary->end_ids()[0]));
}

TEST(GrammarMatcher, ServesTheVocabularyOfTheRealModel) {
  const auto vocabulary = SmolLm2Vocabulary();
  if (vocabulary == nullptr) GTEST_SKIP() << "SHOAL_SMOLLM2 names no model";
  const auto grammar = Masked(Schema(kPerson), vocabulary);
  test::RandomBits random(2);
  int answers = 0;
  for (int i = 0; i < 20; ++i) {
    const auto text = RandomAnswer(grammar, random, 300);
    if (!text) continue;
    ++answers;
    const Json schema = Json::parse(kPerson);
    EXPECT_TRUE(IsValid(schema, Json::parse(*text), schema)) << *text;
  }
  EXPECT_GT(answers, 5);
}

}  // namespace
}  // namespace shoal::text::grammar
