#include "parallel/text/tools/template_tools.h"

// What is found out about templates as families write them, and what their models read.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "transport/base/error.h"

namespace shoal::text {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

// As SmolLM2 has it: it knows of no tools, and adds text and text.
constexpr char kPlain[] =
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// As Qwen has it.
constexpr char kObjects[] =
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{{ '\n' }}{% endfor %}{% endif %}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}<tool_call>"
    "{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}"
    "</tool_call>{% endfor %}{{ '\n' }}{% endfor %}";

// As DeepSeek has it: arguments are text, and of who calls there is no content.
constexpr char kTexts[] =
    "{% for m in messages %}{% if m.role == 'assistant' and m['content'] is none %}"
    "{% for c in m['tool_calls'] %}{{ 'call ' + c['function']['name'] + ' ' + "
    "c['function']['arguments'] }}{% endfor %}{% else %}{{ m.role + ':' + m.content }}{% endif %}"
    "{{ '\n' }}{% endfor %}";

// As Gemma has it.
constexpr char kNoSystem[] =
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('only users and assistants speak') }}{% endif %}"
    "{{ m.role + ':' + m.content + '\n' }}{% endfor %}";

Json Tools() {
  return Json::parse(R"([{"type": "function", "function": {"name": "look", "parameters": {}}}])");
}

Json Chat() {
  return Json::parse(R"([
    {"role": "user", "content": "Is it sunny?"},
    {"role": "assistant", "content": "", "tool_calls": [
      {"id": "1", "type": "function",
       "function": {"name": "look", "arguments": "{\"at\": \"sky\"}"}},
      {"id": "2", "type": "function", "function": {"name": "look", "arguments": "not JSON"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "blue"},
    {"role": "tool", "tool_call_id": "2", "content": "dark"}])");
}

std::string Render(const char* source, Json variables, ToolFormat format = ToolFormat::kHermes) {
  const std::unique_ptr<ChatTemplate> chat_template = ChatTemplate::Parse(source);
  FitToTemplate(ProbeTools(*chat_template), format, variables);
  return chat_template->Render(variables).text;
}

TEST(TemplateTools, AreFoundOut) {
  const TemplateTools plain = ProbeTools(*ChatTemplate::Parse(kPlain));
  EXPECT_FALSE(plain.shows_tools);
  EXPECT_FALSE(plain.shows_calls);
  EXPECT_TRUE(plain.takes_system);
  const TemplateTools objects = ProbeTools(*ChatTemplate::Parse(kObjects));
  EXPECT_TRUE(objects.shows_tools);
  EXPECT_TRUE(objects.shows_calls);
  EXPECT_FALSE(objects.text_arguments);
  EXPECT_FALSE(objects.null_content);
  const TemplateTools texts = ProbeTools(*ChatTemplate::Parse(kTexts));
  EXPECT_FALSE(texts.shows_tools);
  EXPECT_TRUE(texts.shows_calls);
  EXPECT_TRUE(texts.text_arguments);
  EXPECT_TRUE(texts.null_content);
  EXPECT_FALSE(ProbeTools(*ChatTemplate::Parse(kNoSystem)).takes_system);
}

TEST(TemplateTools, ShowCallsAsTheTemplateTakesThem) {
  EXPECT_EQ(
      Render(kObjects, {{"messages", Chat()}, {"tools", Tools()}}),
      "{\"type\": \"function\", \"function\": {\"name\": \"look\", \"parameters\": {}}}\n"
      "user:Is it sunny?\n"
      "assistant:<tool_call>{\"name\": \"look\", \"arguments\": {\"at\": \"sky\"}}</tool_call>"
      "<tool_call>{\"name\": \"look\", \"arguments\": \"not JSON\"}</tool_call>\n"
      "tool:blue\ntool:dark\n");
  EXPECT_EQ(Render(kTexts, {{"messages", Chat()}}),
            "user:Is it sunny?\ncall look {\"at\": \"sky\"}call look not JSON\n"
            "tool:blue\ntool:dark\n");
}

TEST(TemplateTools, LeaveArgumentsAsTextThatNestTooDeep) {
  Json chat = Chat();
  const std::string deep = "{\"a\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  chat[1]["tool_calls"][0]["function"]["arguments"] = deep;
  EXPECT_THAT(Render(kTexts, {{"messages", chat}}), HasSubstr(deep));
  EXPECT_THAT(Render(kPlain, {{"messages", chat}}), HasSubstr(deep));
}

TEST(TemplateTools, TakeResultsOfTheOlderForm) {
  Json chat = Chat();
  chat[2]["role"] = "function";
  EXPECT_THAT(Render(kPlain, {{"messages", chat}}), HasSubstr("<tool_response>\nblue"));
}

TEST(TemplateTools, ArePutIntoWordsWhereTheTemplateHasNone) {
  const std::string text = Render(kPlain, {{"messages", Chat()}, {"tools", Tools()}});
  EXPECT_THAT(text, testing::StartsWith("<|im_start|>system\nYou may call functions."));
  EXPECT_THAT(text, HasSubstr("<tools>\n{\"type\":\"function\",\"function\":{\"name\":\"look\""));
  EXPECT_THAT(text, HasSubstr("<tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"PARAMETER\":"));
  EXPECT_THAT(text, HasSubstr("assistant\n<tool_call>\n{\"name\": \"look\", \"arguments\": "
                              "{\"at\":\"sky\"}}\n</tool_call>\n<tool_call>"));
  EXPECT_THAT(text, HasSubstr("<|im_start|>user\n<tool_response>\nblue\n</tool_response>\n"
                              "<tool_response>\ndark\n</tool_response><|im_end|>"));
  Json with_system = Chat();
  with_system.insert(with_system.begin(), Json{{"role", "system"}, {"content", "Be kind."}});
  EXPECT_THAT(Render(kPlain, {{"messages", with_system}, {"tools", Tools()}}),
              testing::StartsWith("<|im_start|>system\nBe kind.\n\nYou may call functions."));
  EXPECT_THAT(Render(kNoSystem, {{"messages", Chat()}, {"tools", Tools()}}),
              testing::StartsWith("user:You may call functions."));
  EXPECT_THAT(Render(kPlain, {{"messages", Chat()}, {"tools", Tools()}}, ToolFormat::kMistral),
              HasSubstr("[TOOL_CALLS][{\"name\": \"NAME\", \"arguments\": "));
}

TEST(TemplateTools, LeaveOtherChatsAsTheyAre) {
  Json variables = {{"messages", Json::parse(R"([{"role": "function", "content": "x"}])")},
                    {"tools", nullptr}};
  const Json before = variables;
  FitToTemplate(ProbeTools(*ChatTemplate::Parse(kPlain)), ToolFormat::kHermes, variables);
  EXPECT_EQ(variables, before);
}

TEST(ReasoningMarkers, AreThoseOfTheTemplate) {
  using Markers = std::pair<std::string, std::string>;
  EXPECT_EQ(FindReasoningMarkers(kPlain), Markers());
  EXPECT_EQ(FindReasoningMarkers("{{ x.split('</think>')[-1] }}"), Markers("<think>", "</think>"));
  EXPECT_EQ(FindReasoningMarkers("[THINK]{{ x }}[/THINK]"), Markers("[THINK]", "[/THINK]"));
}

}  // namespace
}  // namespace shoal::text
