// Every template with every chat against what the reference environment renders.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "parallel/text/chat_template.h"
#include "tests/parallel/text/text_fixtures.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

using nlohmann::ordered_json;

ordered_json Variables(const ordered_json& chat, const ordered_json& tokens) {
  ordered_json variables = {{"messages", chat["messages"]},
                            {"tools", chat.value("tools", ordered_json())},
                            {"documents", nullptr},
                            {"add_generation_prompt", chat["add_generation_prompt"]}};
  for (const auto& [name, value] : tokens.items()) variables[name] = value;
  if (chat.contains("kwargs")) {
    for (const auto& [name, value] : chat["kwargs"].items()) variables[name] = value;
  }
  return variables;
}

// What the reference says went wrong, without the name of its exception.
std::string Reason(const std::string& error) { return error.substr(error.find(": ") + 2); }

TEST(ChatTemplateVectors, RendersAndRefusesAsTheReference) {
  if (FixturesFolder().empty()) GTEST_SKIP() << "SHOAL_FIXTURES is not set";
  const std::string folder = FixturesFolder() + "/chat/";
  const ordered_json templates = ReadJson(folder + "templates.json");
  std::map<std::string, ordered_json> chats;
  for (const auto& chat : ReadJson(folder + "cases.json")) chats[chat["name"]] = chat;
  size_t count = 0;
  for (const auto& expected : ReadJson(folder + "rendered.json")) {
    const auto name = expected["template"].get<std::string>();
    SCOPED_TRACE(name + " " + expected["case"].get<std::string>());
    const auto parsed = ChatTemplate::Parse(templates[name]["template"].get<std::string>());
    const ordered_json variables =
        Variables(chats.at(expected["case"].get<std::string>()), templates[name]["tokens"]);
    if (expected.contains("rendered")) {
      EXPECT_EQ(parsed->Render(variables).text, expected["rendered"].get<std::string>());
    } else {
      try {
        ADD_FAILURE() << "rendered: " << parsed->Render(variables).text;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
        EXPECT_THAT(error.what(), testing::HasSubstr(Reason(expected["error"].get<std::string>())));
      }
    }
    ++count;
  }
  EXPECT_EQ(count, 8u * 34u);
}

}  // namespace
}  // namespace shoal::text
