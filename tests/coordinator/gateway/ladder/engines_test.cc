// What answers without a model: rules, a folder of texts, earlier answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "coordinator/gateway/ladder/answer_cache.h"
#include "coordinator/gateway/ladder/knowledge_base.h"
#include "coordinator/gateway/ladder/rules_engine.h"
#include "parallel/text/search/words.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

RulesEngine Rules(const std::string& yaml) {
  return RulesEngine(config::YamlMap::ReadText(yaml, "rules.yaml"));
}

template <typename Work>
std::string ErrorOf(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Words, AreFoldedLettersAndDigitsOfAnyScript) {
  EXPECT_THAT(text::SplitWords("Don't STOP at No. 42!", 99),
              ElementsAre("don", "t", "stop", "at", "no", "42"));
  EXPECT_THAT(text::SplitWords("Straße ÄRGER e\xCC\x81", 99),
              ElementsAre("strasse", "ärger", "\xC3\xA9"));
  EXPECT_THAT(text::SplitWords("GPU服务器", 99), ElementsAre("gpu", "服", "务", "器"));
  EXPECT_THAT(text::SplitWords("a\xFF"
                               "b",
                               99),
              ElementsAre("a", "b"));
  EXPECT_THAT(text::SplitWords("one two three", 2), ElementsAre("one", "two"));
  EXPECT_THAT(text::SplitWords("", 9), ElementsAre());
}

TEST(Rules, AnswerByTheFirstThatFits) {
  const RulesEngine rules = Rules(R"(rules:
  - name: hours
    words: [opening hours]
    any: [weekend, sunday]
    answer: Closed on weekends.
  - name: all hours
    words: [opening, hours]
    answer: From nine to five.
  - pattern: "\\border\\s+(?:number\\s+)?(?<number>\\d{4,})\\b"
    answer: "Order {number} ({0}, {1}) is on its way {{really}}."
)");
  EXPECT_EQ(rules.size(), 3U);
  EXPECT_EQ(rules.Answer("What are the OPENING hours on Sunday?"),
            (TextAnswer{"Closed on weekends.", "rule hours"}));
  EXPECT_EQ(rules.Answer("hours of opening on sunday?")->source, "rule all hours")
      << "a phrase's words follow each other";
  EXPECT_EQ(
      rules.Answer("Where is ORDER number 12345?"),
      (TextAnswer{"Order 12345 (ORDER number 12345, 12345) is on its way {really}.", "rule 3"}));
  EXPECT_FALSE(rules.Answer("Where is order 12?"));
  EXPECT_FALSE(rules.Answer(""));
  EXPECT_FALSE(rules.Answer("order 1234 \xFF")) << "patterns are for UTF-8";
  EXPECT_FALSE(rules.Answer("opening hours " + std::string(kQuestionBytesMax, 'x')));
}

TEST(Rules, AreNotHeldUpByAPatternThatExplodes) {
  const RulesEngine rules = Rules(R"(rules:
  - {pattern: "(a+)+$", answer: slow}
  - {words: b, answer: fast}
)");
  EXPECT_EQ(rules.Answer(std::string(4'000, 'a') + " b")->text, "fast");
}

TEST(Rules, AreRefusedByLine) {
  const std::pair<std::string, std::string> cases[] = {
      {"rules: []", "rules.yaml, line 1: rules: expected a list of rules, found none"},
      {"rules:\n  - answer: x", "line 2: name: the rule needs what it answers to"},
      {"rules:\n  - words: a", "answer: expected the text of the answer"},
      {"rules:\n  - {pattern: \"(\", answer: x}", "line 2: pattern: byte 1 of the expression"},
      {"rules:\n  - {pattern: a, words: b, answer: x}", "pattern, or words"},
      {"rules:\n  - {pattern: a, answer: \"{1}\"}", "{1} is no group of the rule's pattern"},
      {"rules:\n  - {words: a, answer: \"{0}\"}", "{0} is no group"},
      {"rules:\n  - {words: a, answer: \"{\"}", "{} is no group"},
      {"rules:\n  - {words: a, answer: \"}\"}", "a lone }"},
      {"rules:\n  - {words: [\"!\"], answer: x}", "expected words, found '!'"},
      {"rules:\n  - {words: a, anser: x, answer: y}", "anser: no such key"},
      {"rules:\n  - {name: n, words: a, answer: x}\n  - {name: n, words: a, answer: x}",
       "line 3: name: there is another rule 'n'"},
  };
  for (const auto& [yaml, expected] : cases) {
    EXPECT_THAT(ErrorOf([&yaml = yaml] { Rules(yaml); }), HasSubstr(expected)) << yaml;
  }
}

TEST(Knowledge, ScoresByTheFormula) {
  // Lengths 4, 2 and 6: 4 on average.
  const KnowledgeBase base(
      {{"red red blue green", "a"}, {"blue sky", "b"}, {"grey grey grey grey sky stone", "c"}}, {});
  const auto idf = [](double n) { return std::log(1 + (3 - n + 0.5) / (n + 0.5)); };
  const auto term = [](double count, double length) {
    return count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / 4));
  };
  const auto red = base.Find("red blue");
  ASSERT_TRUE(red);
  EXPECT_EQ(red->paragraph, 0U);
  EXPECT_NEAR(red->score, idf(1) * term(2, 4) + idf(2) * term(1, 4), 1e-12);
  EXPECT_NEAR(red->score, 1.8186, 5e-5);  // Worked out by hand: 0.98083 x 1.375 + 0.47 x 1.
  EXPECT_NEAR(red->coverage, 1, 1e-12);
  const auto sky = base.Find("sky SKY sky");
  ASSERT_TRUE(sky);
  EXPECT_EQ(sky->paragraph, 1U) << "the shorter one";
  EXPECT_NEAR(sky->score, idf(2) * term(1, 2), 1e-12);
  const auto part = base.Find("stone unicorn");
  ASSERT_TRUE(part);
  EXPECT_EQ(part->paragraph, 2U);
  EXPECT_NEAR(part->coverage, idf(1) / (idf(1) + idf(0)), 1e-12);
  EXPECT_FALSE(base.Find("unicorn"));
  EXPECT_FALSE(base.Find(""));
}

TEST(Knowledge, AnswersOnlyAboveItsBounds) {
  const std::vector<Paragraph> paragraphs = {{"the heater is in the cellar", "house.md"},
                                             {"the key is under the mat", "house.md"}};
  EXPECT_EQ(KnowledgeBase(paragraphs, {.coverage_min = 0.5}).Answer("where is the heater"),
            std::nullopt)
      << "'where' is nowhere, and weighs the most";
  EXPECT_EQ(KnowledgeBase(paragraphs, {.coverage_min = 0.35}).Answer("where is the heater"),
            (TextAnswer{"the heater is in the cellar", "house.md"}));
  EXPECT_FALSE(KnowledgeBase(paragraphs, {.score_min = 9, .coverage_min = 0}).Answer("the heater"));
}

TEST(Knowledge, PartsTextsAtEmptyLines) {
  const std::vector<Paragraph> parts =
      SplitParagraphs("# House\n\n## Heat\nIn the\r\ncellar.\n\n\nMore.\n# End\n", "h.md");
  EXPECT_THAT(parts,
              ElementsAre(Paragraph{"# House\n## Heat\nIn the\ncellar.", "h.md, paragraph 1"},
                          Paragraph{"More.", "h.md, paragraph 2"}));
  std::string text;
  for (int i = 0; i < 3'000; ++i) text += "über ";
  size_t bytes = 0;
  for (const Paragraph& part : SplitParagraphs(text, "l")) {
    EXPECT_LE(part.text.size(), 4'096U);
    EXPECT_TRUE(part.text.starts_with("über") && part.text.ends_with("über"));
    bytes += part.text.size() + 1;
  }
  EXPECT_EQ(bytes, text.size());
  EXPECT_EQ(SplitParagraphs(std::string(10'000, 'x'), "x").size(), 3U);
}

class KnowledgeFolder : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_.path() + "/" + name) << text;
  }
  std::string Refusal(const KnowledgeOptions& options) {
    return ErrorOf([&] { KnowledgeBase::ReadFolder(folder_.path(), options); });
  }

  test::ScratchFolder folder_;
};

TEST_F(KnowledgeFolder, IsReadByName) {
  Write("b.txt", "second paragraph of all\n");
  Write("a.md", "first paragraph of all\n");
  Write("c.pdf", "no text\n");
  const KnowledgeBase base = KnowledgeBase::ReadFolder(folder_.path(), {});
  EXPECT_EQ(base.size(), 2U);
  EXPECT_EQ(base.Answer("paragraph of all")->source, "a.md, paragraph 1") << "the first of equals";
  EXPECT_EQ(base.Answer("second paragraph")->source, "b.txt, paragraph 1");
}

TEST_F(KnowledgeFolder, IsRefusedWithWhatToChange) {
  EXPECT_THAT(Refusal({}), HasSubstr("found no paragraph"));
  Write("a.md", "some text\n");
  Write("b.md", "more text\n");
  EXPECT_THAT(Refusal({.files_max = 1}), HasSubstr("at most 1 texts: raise files_max"));
  EXPECT_THAT(Refusal({.bytes_max = 12}), HasSubstr("at most 12 bytes of text"));
  Write("c.txt", "bad \xFF byte");
  EXPECT_THAT(Refusal({}), HasSubstr("c.txt: expected UTF-8"));
  EXPECT_THAT(ErrorOf([] { KnowledgeBase::ReadFolder("/no/such/folder", {}); }),
              HasSubstr("/no/such/folder"));
}

Digest Key(uint8_t first) { return Digest{first}; }

CachedAnswer Answer(const std::string& text) {
  CachedAnswer answer;
  answer.choices.push_back({text, FinishReason::kStop});
  return answer;
}

TEST(AnswerCache, GivesEachTenantItsOwnForATime) {
  AnswerCache cache({.ttl_ms = 1'000});
  cache.Put("a", Key(1), Answer("one"), 0);
  ASSERT_NE(cache.Find("a", Key(1), 999 * kMillisecondNs), nullptr);
  EXPECT_EQ(cache.Find("a", Key(1), 0)->choices[0].text, "one");
  EXPECT_EQ(cache.Find("b", Key(1), 0), nullptr);
  EXPECT_EQ(cache.Find("a", Key(2), 0), nullptr);
  cache.Put("a", Key(1), Answer("two"), 500 * kMillisecondNs);
  EXPECT_EQ(cache.Find("a", Key(1), 1'400 * kMillisecondNs)->choices[0].text, "two");
  EXPECT_EQ(cache.Find("a", Key(1), 1'500 * kMillisecondNs), nullptr);
  EXPECT_EQ(cache.size(), 0U);
  EXPECT_EQ(cache.bytes(), 0);
}

TEST(AnswerCache, StaysWithinItsBounds) {
  const auto bytes = static_cast<int64_t>(Answer(std::string(1'000, 'x')).bytes()) + 3;
  AnswerCache cache({.bytes_max = 5 * bytes, .tenant_bytes_max = 3 * bytes});
  for (uint8_t i = 0; i < 3; ++i) cache.Put("a", Key(i), Answer(std::string(1'000, 'x')), 0);
  ASSERT_NE(cache.Find("a", Key(0), 0), nullptr);
  cache.Put("a", Key(3), Answer(std::string(1'000, 'x')), 0);
  EXPECT_EQ(cache.Find("a", Key(1), 0), nullptr) << "asked for least recently";
  EXPECT_NE(cache.Find("a", Key(0), 0), nullptr);
  for (uint8_t i = 0; i < 3; ++i) cache.Put("b", Key(i), Answer(std::string(1'000, 'x')), 0);
  EXPECT_LE(cache.bytes(), 5 * bytes);
  EXPECT_EQ(cache.size(), 5U);
  EXPECT_NE(cache.Find("a", Key(0), 0), nullptr);
  EXPECT_EQ(cache.Find("a", Key(2), 0), nullptr);
  cache.Put("c", Key(9), Answer(std::string(6'000, 'x')), 0);
  EXPECT_EQ(cache.Find("c", Key(9), 0), nullptr) << "more than a tenant may have";
  EXPECT_EQ(cache.size(), 5U);
}

}  // namespace
}  // namespace shoal::gateway
