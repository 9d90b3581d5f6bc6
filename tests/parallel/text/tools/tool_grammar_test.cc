#include "parallel/text/tools/tool_grammar.h"

// Whatever a forced answer is, the reader of its format finds the call in it.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "parallel/text/tools/answer_reader.h"
#include "tests/parallel/grammar/support.h"

namespace shoal::text {
namespace {

using Json = nlohmann::ordered_json;

const Json kFunctions = Json::parse(R"([
  {"name": "get_weather", "parameters": {"type": "object", "required": ["city"],
   "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer",
   "minimum": 1, "maximum": 9}}}},
  {"name": "now", "parameters": {"type": "object", "properties": {}}}])");

class ForcedCalls : public testing::TestWithParam<ToolFormat> {};

TEST_P(ForcedCalls, AreReadBack) {
  for (const bool parallel : {false, true}) {
    const auto grammar = grammar::Masked(ToolCallGrammar(GetParam(), kFunctions, parallel));
    test::RandomBits random(7);
    int found = 0;
    for (int i = 0; i < 60; ++i) {
      const std::optional<std::string> answer = grammar::RandomAnswer(grammar, random, 400);
      if (!answer) continue;
      ++found;
      AnswerReader reader(AnswerSyntax{.tools = GetParam()});
      AnswerParts parts = reader.Push(*answer);
      const AnswerParts last = reader.Finish();
      EXPECT_EQ(parts.content + last.content, "") << *answer;
      ASSERT_GE(reader.call_count(), 1) << *answer;
      EXPECT_LE(reader.call_count(), parallel ? static_cast<int32_t>(kParallelCallsMax) : 1);
      std::string arguments;
      for (const ToolDelta& delta : parts.calls) {
        if (!delta.name.empty()) {
          EXPECT_TRUE(delta.name == "get_weather" || delta.name == "now") << *answer;
          EXPECT_TRUE(arguments.empty() || Json::accept(arguments)) << *answer;
          arguments.clear();
        }
        arguments += delta.arguments;
      }
      EXPECT_TRUE(Json::parse(arguments).is_object()) << *answer;
    }
    EXPECT_GT(found, 5);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, ForcedCalls,
                         testing::Values(ToolFormat::kHermes, ToolFormat::kLlama3,
                                         ToolFormat::kMistral, ToolFormat::kDeepSeek,
                                         ToolFormat::kGemma),
                         [](const auto& of) { return std::string(SyntaxOf(of.param).name); });

}  // namespace
}  // namespace shoal::text
