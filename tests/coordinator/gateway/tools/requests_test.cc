// Tools in requests: what the template is told, what forces a call, and what is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/text/tools/tool_grammar.h"
#include "tests/coordinator/gateway/tools/support.h"

namespace shoal::gateway {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using text::ToolFormat;

constexpr std::string_view kChat = "/v1/chat/completions";

json Chat(json fields) {
  if (!fields.contains("messages")) fields["messages"] = {{{"role", "user"}, {"content", "hi"}}};
  return fields;
}

TEST(ToolRequests, ReachTheTemplate) {
  ToolsFixture fixture;
  const json call = {{"id", "call_1"},
                     {"type", "function"},
                     {"function", {{"name", "look"}, {"arguments", "{\"city\":\"Rome\"}"}}}};
  const json messages = {{{"role", "user"}, {"content", "hi"}},
                         {{"role", "assistant"},
                          {"content", nullptr},
                          {"tool_calls", {call}},
                          {"reasoning_content", "r"}},
                         {{"role", "tool"}, {"tool_call_id", "call_1"}, {"content", "sunny"}}};
  json extra = Tool("look");
  extra["function"]["strict"] = true;
  fixture.Ask({{"messages", messages},
               {"tools", {extra}},
               {"chat_template_kwargs", {{"enable_thinking", false}, {"style", "terse"}}},
               {"reasoning_effort", "low"}},
              "x");
  const json told = json::parse(fixture.told.dump());
  EXPECT_EQ(told["tools"], json({extra}));
  EXPECT_EQ(told["enable_thinking"], false);
  EXPECT_EQ(told["style"], "terse");
  EXPECT_EQ(told["reasoning_effort"], "low");
  EXPECT_EQ(told["add_generation_prompt"], true);
  EXPECT_FALSE(told.contains("continue_final_message"));
  EXPECT_EQ(told["messages"][1]["tool_calls"], json({call}));
  EXPECT_EQ(told["messages"][1]["content"], "");
  EXPECT_EQ(told["messages"][1]["reasoning_content"], "r");
  EXPECT_EQ(told["messages"][2]["tool_call_id"], "call_1");
}

TEST(ToolRequests, MayGoOnWithTheLastMessage) {
  const json messages = {{{"role", "user"}, {"content", "hi"}},
                         {{"role", "assistant"}, {"content", "Well"}}};
  json by_prefix = messages;
  by_prefix[1]["prefix"] = true;
  const json cases[] = {
      {{"messages", messages}, {"continue_final_message", true}, {"add_generation_prompt", false}},
      {{"messages", messages}, {"continue_final_message", true}},
      {{"messages", by_prefix}}};
  for (const json& fields : cases) {
    ToolsFixture fixture;
    EXPECT_EQ(fixture.Ask(fields, "x").status, 200) << fields;
    EXPECT_EQ(fixture.told["continue_final_message"], true) << fields;
    EXPECT_EQ(fixture.told["add_generation_prompt"], false) << fields;
  }
}

TEST(ToolRequests, ForceCallsByGrammar) {
  const json tools = {Tool("look"), Tool("find")};
  struct Case {
    json choice;
    json parallel;
    size_t functions;
    bool repeats;
  };
  const Case cases[] = {{"required", nullptr, 2, true},
                        {"required", false, 2, false},
                        {Named("find"), nullptr, 1, false}};
  for (const Case& one : cases) {
    for (const ToolFormat format : {ToolFormat::kHermes, ToolFormat::kMistral}) {
      ToolsFixture fixture(format);
      auto client = fixture.Connect();
      client->Request("POST", kChat,
                      Chat({{"tools", tools},
                            {"tool_choice", one.choice},
                            {"parallel_tool_calls", one.parallel}})
                          .dump());
      ASSERT_EQ(fixture.generation.sequences.size(), 1U) << one.choice;
      nlohmann::ordered_json functions = nlohmann::ordered_json::array();
      for (const json& tool : tools) {
        if (one.functions == 1 && tool["function"]["name"] != "find") continue;
        functions.push_back(
            {{"name", tool["function"]["name"]}, {"parameters", tool["function"]["parameters"]}});
      }
      EXPECT_EQ(fixture.generation.sequences[0].params.grammar,
                text::ToolCallGrammar(format, functions, one.repeats))
          << one.choice;
    }
  }
}

json Allowed(const std::string& mode, const json& tools) {
  return {{"type", "allowed_tools"}, {"allowed_tools", {{"mode", mode}, {"tools", tools}}}};
}

TEST(ToolRequests, MayAllowSomeOfTheTools) {
  const json tools = {Tool("look"), Tool("find")};
  for (const bool required : {false, true}) {
    ToolsFixture fixture;
    const json choice = Allowed(required ? "required" : "auto", json::array({Named("find")}));
    fixture.Ask({{"tools", tools}, {"tool_choice", choice}}, "x");
    EXPECT_EQ(json::parse(fixture.told["tools"].dump()), json({Tool("find")}));
    const GrammarSource& grammar = fixture.generation.sequences.at(0).params.grammar;
    EXPECT_EQ(grammar.kind, required ? GrammarKind::kParts : GrammarKind::kNone);
    EXPECT_EQ(grammar.text.find("look"), std::string::npos);
  }
}

// The answer may be a call, or what the other field says.
TEST(ToolRequests, MayAskForAFormatToo) {
  const std::string call =
      "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"city\":\"a\"}}\n"
      "</tool_call>";
  const json schema = {{"type", "object"}, {"properties", json::object()}};
  const std::pair<json, json> formats[] = {
      {{{"response_format", {{"type", "json_object"}}}}, {{"schema", {{"type", "object"}}}}},
      {{{"guided_json", schema}}, {{"schema", schema}}},
      {{{"guided_regex", "a+"}}, {{"regex", "a+"}}},
      {{{"guided_choice", {"a", "b"}}}, {{"any_of", {{"a"}, {"b"}}}}}};
  for (const auto& [fields, part] : formats) {
    json body = fields;
    body["tools"] = {Tool("look")};
    ToolsFixture fixture;
    const Reply reply = fixture.Ask(body, call);
    ASSERT_EQ(reply.status, 200) << reply.body;
    const GrammarSource& grammar = fixture.generation.sequences.at(0).params.grammar;
    ASSERT_EQ(grammar.kind, GrammarKind::kParts) << fields;
    const json any = json::parse(grammar.text)[0]["any_of"];
    EXPECT_EQ(any[0], json::array({part}));
    EXPECT_THAT(any[1].dump(), HasSubstr("look"));
    EXPECT_EQ(reply.json()["choices"][0]["finish_reason"], "tool_calls");
  }
}

struct BadTools {
  json fields;
  std::string param;
  std::string message;
};

std::vector<BadTools> BadRequests() {
  const json look = Tool("look");
  const auto with = [&](const char* key, const json& value) {
    json tool = look;
    tool["function"][key] = value;
    return json({{"tools", {tool}}});
  };
  const json many(kToolsMax + 1, look);
  const json unsupported = {{"type", "object"}, {"properties", {{"a", {{"not", json::object()}}}}}};
  json forced = with("parameters", unsupported);
  forced["tools"].insert(forced["tools"].begin(), Tool("first"));
  forced["tool_choice"] = "required";
  return {
      {{{"tools", "look"}}, "tools", "must be an array, not a string"},
      {{{"tools", {1}}}, "tools[0]", "must be an object"},
      {{{"tools", {json::object()}}}, "tools[0].type", "is missing"},
      {{{"tools", {{{"type", "web_search"}}}}},
       "tools[0].type",
       "\"function\", not \"web_search\""},
      {{{"tools", {{{"type", "function"}}}}}, "tools[0].function", "is missing"},
      {with("name", "a b"), "tools[0].function.name", "not \"a b\""},
      {with("name", std::string(65, 'a')), "tools[0].function.name", "1 to 64"},
      {with("name", ""), "tools[0].function.name", "1 to 64"},
      {with("strict", "yes"), "tools[0].function.strict", "must be a boolean"},
      {with("parameters", "{}"), "tools[0].function.parameters", "an object"},
      {with("parameters", {{"type", "string"}}), "tools[0].function.parameters.type",
       "not \"string\""},
      {{{"tools", {look, look}}}, "tools[1]", "\"look\" of an earlier one"},
      {{{"tools", many}}, "tools", "at most 128"},
      {{{"tool_choice", "required"}}, "tool_choice", "no tools"},
      {{{"tools", {look}}, {"tool_choice", "any"}}, "tool_choice", "\"required\" or"},
      {{{"tools", {look}}, {"tool_choice", Named("seek")}},
       "tool_choice.function.name",
       "none of the functions: look"},
      {{{"tools", {look}}, {"tool_choice", {{"type", "mcp"}}}}, "tool_choice.type", "\"mcp\""},
      {{{"tools", {look}}, {"tool_choice", Allowed("never", json::array({Named("look")}))}},
       "tool_choice.allowed_tools.mode",
       "not \"never\""},
      {{{"tools", {look}}, {"tool_choice", Allowed("auto", json::array({Named("seek")}))}},
       "tool_choice.allowed_tools.tools[0].function.name",
       "none of the functions"},
      {{{"tools", {look}}, {"function_call", {{"name", "look"}}}},
       "function_call.name",
       "none of the functions"},
      {{{"functions", {look["function"]}}, {"tool_choice", "required"}}, "tool_choice", "no tools"},
      {{{"tools", {look}}, {"tool_choice", "required"}, {"guided_regex", "a"}},
       "tool_choice",
       "tool_choice and guided_regex exclude each other"},
      {{{"tools", {look}}, {"tool_choice", "required"}, {"ignore_eos", true}},
       "ignore_eos",
       "tool_choice"},
      {{{"tools", {look}}, {"functions", {look["function"]}}}, "functions", "exclude each other"},
      {{{"function_call", {{"name", "look"}}}}, "function_call.name", "none of the functions"},
      {{{"tools", {look}}, {"parallel_tool_calls", 1}}, "parallel_tool_calls", "a boolean"},
      {forced, "tools[1].function.parameters", "#/properties/a/not"},
      {{{"chat_template_kwargs", {{"messages", {1}}}}}, "chat_template_kwargs.messages", "found"},
      {{{"chat_template_kwargs", {{"bos_token", "x"}}}},
       "chat_template_kwargs.bos_token",
       "_token"},
      {{{"chat_template_kwargs", "x"}}, "chat_template_kwargs", "an object"},
      {{{"reasoning_effort", "huge"}}, "reasoning_effort", "not \"huge\""},
      {{{"thinking", {{"type", "often"}}}}, "thinking.type", "not \"often\""},
      {{{"continue_final_message", true}}, "messages[0]", "of the role user"},
      {{{"continue_final_message", true}, {"add_generation_prompt", true}},
       "continue_final_message",
       "exclude each other"},
  };
}

TEST(ToolRequests, AreRefusedWithTheFieldAndWhatItMayBe) {
  for (const BadTools& bad : BadRequests()) {
    ToolsFixture fixture;
    const Reply reply = fixture.Post(kChat, Chat(bad.fields).dump());
    ASSERT_EQ(reply.status, 400) << bad.fields << reply.body;
    const json error = reply.json()["error"];
    EXPECT_EQ(error["param"], bad.param) << bad.fields;
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(bad.message)) << bad.fields;
    EXPECT_TRUE(fixture.generation.sequences.empty());
  }
}

TEST(ToolRequests, OfCompletionsAreRefused) {
  GatewayFixture fixture;
  const json body = {{"prompt", "a"}, {"tools", {Tool("look")}}};
  const Reply reply = fixture.Post("/v1/completions", body.dump());
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, HasSubstr("only /v1/chat/completions has it"));
}

TEST(ToolMessages, AreRefusedWithTheFieldAndWhatItMayBe) {
  const json function = {{"name", "look"}, {"arguments", "{}"}};
  const auto assistant = [](const json& calls) {
    return json({{"role", "assistant"}, {"tool_calls", calls}});
  };
  const BadTools cases[] = {
      {assistant("x"), "messages[0].tool_calls", "an array"},
      {assistant(json::array({json::object()})), "messages[0].tool_calls[0].function",
       "is missing"},
      {assistant({{{"type", "x"}, {"function", function}}}), "messages[0].tool_calls[0].type",
       "\"x\""},
      {assistant({{{"function", {{"name", "a b"}}}}}), "messages[0].tool_calls[0].function.name",
       "\"a b\""},
      {assistant({{{"function", {{"name", "f"}, {"arguments", 5}}}}}),
       "messages[0].tool_calls[0].function.arguments", "JSON as a string"},
      {{{"role", "user"}, {"content", "x"}, {"tool_calls", {{{"function", function}}}}},
       "messages[0].tool_calls",
       "only be an assistant's"},
      {{{"role", "tool"}, {"content", "x"}, {"tool_call_id", 5}},
       "messages[0].tool_call_id",
       "a string"},
      {{{"role", "user"}, {"content", "x"}, {"prefix", true}},
       "messages[0].prefix",
       "only the last message"},
  };
  for (const BadTools& bad : cases) {
    ToolsFixture fixture;
    const Reply reply = fixture.Post(kChat, json({{"messages", {bad.fields}}}).dump());
    ASSERT_EQ(reply.status, 400) << bad.fields << reply.body;
    const json error = reply.json()["error"];
    EXPECT_EQ(error["param"], bad.param) << bad.fields;
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(bad.message)) << bad.fields;
  }
}

}  // namespace
}  // namespace shoal::gateway
