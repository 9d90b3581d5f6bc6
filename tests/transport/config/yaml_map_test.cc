// Policy files as people and programs write them: what is no plain YAML is refused, by line.

#include "transport/config/yaml_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "transport/base/error.h"

namespace shoal::config {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  try {
    YamlMap map = YamlMap::ReadText(text, "f.yaml");
    map.Text("a", "");
    for (YamlMap& each : map.Maps("list")) {
      each.Int("n", 0, {0, 9});
      each.Finish();
    }
    map.Finish();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(YamlMap, IsRefusedByLine) {
  const std::pair<std::string, std::string> cases[] = {
      {"a: b\nlist: &all\n- n: 1\n", "line 2: expected each value written out where it stands, "},
      {"a: &x b\nlist: []\n",
       "line 1: expected each value written out where it stands, found an a"},
      {"a: b\nlist: *all\n", "line 2: "},
      {"a: !!binary aGk=\n",
       "line 1: expected each value written out where it stands, found the "
       "tag 'tag:yaml.org,2002:binary'"},
      {"a: b\n---\nlist: []\n", "line 2: expected one document, found another one"},
      {"a: b\nlist:\n\t- n: 1\n", ": expected spaces before it, found a tab"},
      {"a: b\nlist:\n- n: 1\n \t m: 1\n", "line 4: "},
      {"a: b\nlist:\n- n: 1\n- n: \xff\n", "line 4: expected UTF-8, found '- n: \xEF\xBF\xBD'"},
      {std::string("a: b\n\xfe\xff\0a", 9), "line 2: expected UTF-8"},
      {"a: b\na: c\n", "line 2: a is there a second time"},
      {"a: [b\n", "line 2: "},
      {"list:\n- n: -1\n", "line 2: n: expected an integer from 0 to 9, found '-1'"},
      {"list:\n- n:\n", "n: expected an integer from 0 to 9, found nothing"},
      {"list:\n- n: 1_0\n", "line 2: n: expected an integer from 0 to 9, found '1_0'"},
      {"list:\n- n: 99999999999999999999\n", "line 2: n: expected an integer from 0 to 9"},
      {"<<: {a: b}\n", "line 1: <<: no such key here"},
      {"? [a]\n: b\n", "line 1: expected a key that is a word"},
      {std::string(100'000, '['), "line 1: "},
  };
  for (const auto& [text, what] : cases) {
    const std::string error = ErrorOf(text);
    EXPECT_THAT(error, HasSubstr(what)) << text.substr(0, 100);
    EXPECT_THAT(error, HasSubstr("f.yaml, ")) << text.substr(0, 100);
  }
  EXPECT_EQ(ErrorOf("# \xC3\xA9\na: 'b'\nlist:\n- n: 1\n"), "no error");
  EXPECT_EQ(ErrorOf("---\na: b\n"), "no error");
  EXPECT_EQ(ErrorOf(""), "no error");
}

TEST(YamlMap, IsNoFileWithoutAnEnd) {
  for (const char* path : {"/dev/zero", "/absent", "/"}) {
    try {
      YamlMap::ReadFile(path);
      FAIL() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr(path));
    }
  }
}

}  // namespace
}  // namespace shoal::config
