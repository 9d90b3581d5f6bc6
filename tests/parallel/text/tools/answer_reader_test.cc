#include "parallel/text/tools/answer_reader.h"

// Answers as the families write them: whole, and cut after every byte.

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

namespace shoal::text {
namespace {

struct Call {
  std::string name;
  std::string arguments;

  bool operator==(const Call&) const = default;
};

struct Whole {
  std::string reasoning{};
  std::string content{};
  std::vector<Call> calls{};

  bool operator==(const Whole&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Whole& whole) {
  out << "reasoning '" << whole.reasoning << "' content '" << whole.content << "'";
  for (const Call& call : whole.calls) out << " call " << call.name << " " << call.arguments;
  return out;
}

void Add(const AnswerParts& parts, Whole& whole) {
  whole.reasoning += parts.reasoning;
  whole.content += parts.content;
  for (const ToolDelta& delta : parts.calls) {
    if (!delta.name.empty()) {
      EXPECT_EQ(delta.call, static_cast<int32_t>(whole.calls.size()));
      whole.calls.push_back({delta.name, ""});
    }
    ASSERT_EQ(delta.call + 1, static_cast<int32_t>(whole.calls.size()));
    whole.calls.back().arguments += delta.arguments;
  }
}

Whole Read(const AnswerSyntax& syntax, const std::vector<std::string>& pieces) {
  AnswerReader reader(syntax);
  Whole whole;
  for (const std::string& piece : pieces) Add(reader.Push(piece), whole);
  Add(reader.Finish(), whole);
  EXPECT_EQ(reader.call_count(), static_cast<int32_t>(whole.calls.size()));
  return whole;
}

// However it is cut.
Whole Read(const AnswerSyntax& syntax, const std::string& text) {
  const Whole whole = Read(syntax, std::vector<std::string>{text});
  for (size_t cut = 1; cut < text.size(); ++cut) {
    EXPECT_EQ(Read(syntax, {text.substr(0, cut), text.substr(cut)}), whole) << "cut at " << cut;
  }
  std::vector<std::string> bytes;
  for (const char c : text) bytes.emplace_back(1, c);
  EXPECT_EQ(Read(syntax, bytes), whole);
  return whole;
}

AnswerSyntax Tools(ToolFormat format) { return {.tools = format}; }
AnswerSyntax Thinking(bool begins = false) {
  return {.reasoning_begin = "<think>", .reasoning_end = "</think>", .begins_in_reasoning = begins};
}

struct Case {
  ToolFormat format;
  std::string text;
  Whole expected;
};

class FamilyAnswers : public testing::TestWithParam<Case> {};

TEST_P(FamilyAnswers, AreSplitWhereverTheyAreCut) {
  EXPECT_EQ(Read(Tools(GetParam().format), GetParam().text), GetParam().expected);
}

const Call kOslo{"get_weather", R"({"city": "Oslo {}\" ]"})"};
const Call kNow{"now", "{}"};

INSTANTIATE_TEST_SUITE_P(
    Hermes, FamilyAnswers,
    testing::Values(
        Case{ToolFormat::kHermes, "Hello <b>, 1 < 2\n", {"", "Hello <b>, 1 < 2\n", {}}},
        Case{ToolFormat::kHermes,
             "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " + kOslo.arguments +
                 "}\n</tool_call>",
             {"", "", {kOslo}}},
        Case{ToolFormat::kHermes,
             "Let me see.\n\n<tool_call>\n{\"arguments\": " + kOslo.arguments +
                 ", \"name\": \"get_weather\"}\n</tool_call>\n<tool_call>{\"name\":\"now\"}"
                 "</tool_call>\n",
             {"", "Let me see.", {kOslo, kNow}}},
        Case{ToolFormat::kHermes,
             "<tool_call>{\"name\":\"now\",\"arguments\":{}}\n<tool_call>{\"name\":\"now\"}",
             {"", "", {kNow, kNow}}},
        Case{ToolFormat::kHermes,
             "Write <tool_call> and then text",
             {"", "Write <tool_call> and then text", {}}},
        Case{ToolFormat::kHermes,
             "<tool_call>{\"city\": 1}</tool_call>",
             {"", "<tool_call>{\"city\": 1}</tool_call>", {}}},
        Case{ToolFormat::kHermes,
             "<tool_call>{\"name\": \"no",
             {"", "<tool_call>{\"name\": \"no", {}}},
        Case{ToolFormat::kHermes,
             "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": [1,",
             {"", "", {{"now", "{\"a\": [1,"}}}},
        Case{ToolFormat::kHermes,
             "<tool_call>{\"name\": \"now\"} \n</tool_call> after",
             {"", "after", {kNow}}}));

INSTANTIATE_TEST_SUITE_P(
    Llama3, FamilyAnswers,
    testing::Values(
        Case{ToolFormat::kLlama3,
             " {\"name\": \"get_weather\", \"parameters\": " + kOslo.arguments + "}",
             {"", "", {kOslo}}},
        Case{ToolFormat::kLlama3,
             "<|python_tag|>{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}; "
             "{\"name\": \"now\", \"parameters\": {}}",
             {"", "", {kNow, kNow}}},
        Case{ToolFormat::kLlama3,
             "{\"answer\": {\"name\": \"x\"}}",
             {"", "{\"answer\": {\"name\": \"x\"}}", {}}},
        Case{ToolFormat::kLlama3,
             "{\"type\": \"function\", \"function\": {\"name\": \"now\", \"arguments\": \"{}\"}}",
             {"", "", {kNow}}},
        Case{ToolFormat::kLlama3,
             "It is {\"name\": \"now\"}.",
             {"", "It is {\"name\": \"now\"}.", {}}}));

INSTANTIATE_TEST_SUITE_P(
    Mistral, FamilyAnswers,
    testing::Values(Case{ToolFormat::kMistral,
                         "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": " +
                             kOslo.arguments + "}, {\"name\": \"now\", \"arguments\": {}}]",
                         {"", "", {kOslo, kNow}}},
                    Case{ToolFormat::kMistral,
                         "So.[TOOL_CALLS]get_weather[ARGS]" + kOslo.arguments +
                             "[TOOL_CALLS]now[CALL_ID]ab12[ARGS]{}",
                         {"", "So.", {kOslo, kNow}}},
                    Case{ToolFormat::kMistral,
                         "[TOOL_CALLS]get_weather" + kOslo.arguments,
                         {"", "", {kOslo}}}));

INSTANTIATE_TEST_SUITE_P(
    DeepSeek, FamilyAnswers,
    testing::Values(Case{ToolFormat::kDeepSeek,
                         "Look:<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
                         "get_weather\n```json\n" +
                             kOslo.arguments +
                             "\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>"
                             "now\n```json\n{}\n```"
                             "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                         {"", "Look:", {kOslo, kNow}}},
                    Case{ToolFormat::kDeepSeek,
                         "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>" +
                             kOslo.arguments + "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                         {"", "", {kOslo}}}));

INSTANTIATE_TEST_SUITE_P(
    Gemma, FamilyAnswers,
    testing::Values(
        Case{ToolFormat::kGemma,
             "```json\n{\"name\": \"get_weather\", \"parameters\": " + kOslo.arguments + "}\n```",
             {"", "", {kOslo}}},
        Case{
            ToolFormat::kGemma, "```python\nprint(1)\n```", {"", "```python\nprint(1)\n```", {}}}));

TEST(AnswerReader, SplitsReasoningOff) {
  EXPECT_EQ(Read(Thinking(), std::string("<think>\nHm, <b>.\n\n</think>\n\nYes. ")),
            (Whole{"Hm, <b>.", "Yes. ", {}}));
  EXPECT_EQ(Read(Thinking(true), std::string("Hm.</think>Yes.")), (Whole{"Hm.", "Yes.", {}}));
  EXPECT_EQ(Read(Thinking(true), std::string("Hm. ")), (Whole{"Hm. ", "", {}}));
  EXPECT_EQ(Read(Thinking(), std::string(" Yes <think>no</think>")),
            (Whole{"", " Yes <think>no</think>", {}}));
  AnswerSyntax both = Thinking();
  both.tools = ToolFormat::kLlama3;
  EXPECT_EQ(Read(both, std::string("<think>a</think>\n{\"name\": \"now\"}")),
            (Whole{"a", "", {kNow}}));
}

TEST(AnswerReader, LeavesAPlainAnswerAsItIs) {
  const std::string text = "\n {\"name\": \"now\"} <think> <tool_call>{} \n";
  EXPECT_EQ(Read(AnswerSyntax{}, text), (Whole{"", text, {}}));
}

TEST(AnswerReader, HearsMarkersOfSpecialTokensAlone) {
  AnswerReader reader(Tools(ToolFormat::kMistral));
  Whole whole;
  Add(reader.PushSpecial("[TOOL_CALLS]"), whole);
  Add(reader.Push("[{\"name\": \"now\", \"arguments\": {}}]"), whole);
  Add(reader.PushSpecial("</s>"), whole);
  Add(reader.Finish(), whole);
  EXPECT_EQ(whole, (Whole{"", "", {kNow}}));
}

TEST(AnswerReader, TellsTheNameAtOnceAndArgumentsAsTheyCome) {
  AnswerReader reader(Tools(ToolFormat::kHermes));
  EXPECT_EQ(reader.Push("<tool_call>{\"name\": \"f\","),
            (AnswerParts{.calls = {{.call = 0, .name = "f"}}}));
  EXPECT_EQ(reader.Push(" \"arguments\": {\"a\":"),
            (AnswerParts{.calls = {{.call = 0, .arguments = "{\"a\":"}}}));
  EXPECT_EQ(reader.Push(" 1}}</tool_call>"),
            (AnswerParts{.calls = {{.call = 0, .arguments = " 1}"}}}));
}

TEST(ToolFormats, AreFoundByNameAndByTemplate) {
  for (const char* name : {"hermes", "llama3", "mistral", "deepseek", "gemma"}) {
    ASSERT_TRUE(FindToolFormat(name)) << name;
    EXPECT_EQ(SyntaxOf(*FindToolFormat(name)).name, name);
  }
  EXPECT_FALSE(FindToolFormat("other"));
  EXPECT_EQ(DetectToolFormat("{{ '<|start_header_id|>' }}"), ToolFormat::kLlama3);
  EXPECT_EQ(DetectToolFormat("<|im_start|> <tool_call> </tool_call>"), ToolFormat::kHermes);
  EXPECT_EQ(DetectToolFormat("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"), ToolFormat::kDeepSeek);
  EXPECT_EQ(DetectToolFormat("nothing"), ToolFormat::kHermes);
}

}  // namespace
}  // namespace shoal::text
