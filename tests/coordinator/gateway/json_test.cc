// JSON in and out, and the search for stop strings.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "coordinator/gateway/answer/stop_matcher.h"
#include "coordinator/gateway/json/json_writer.h"
#include "coordinator/gateway/json/strict_json.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;

std::string Complaint(std::string_view text) {
  try {
    ParseStrictJson(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ParseStrictJson, KeepsValuesAndTheirOrder) {
  const std::string text = R"({"b":[1,-2,3.5,"x\u00e9\ud83d\ude00",null,true],"a":{"c":{}}})";
  EXPECT_EQ(ParseStrictJson(text).dump(), nlohmann::ordered_json::parse(text).dump());
  EXPECT_EQ(ParseStrictJson("18446744073709551615").get<uint64_t>(), UINT64_MAX);
}

TEST(ParseStrictJson, NamesThePlaceOfADuplicateKey) {
  EXPECT_THAT(Complaint(R"({"a":[0,{"b":1,"b":2}]})"), HasSubstr("a[1].b"));
  EXPECT_EQ(Complaint(R"([{"a":1},{"a":2}])"), "");
}

TEST(ParseStrictJson, NamesLineColumnAndPathOfMalformedText) {
  EXPECT_THAT(Complaint("{\"messages\":\n[{\"content\":nope}]}"),
              ::testing::AllOf(HasSubstr("line 2"), HasSubstr("messages[0].content")));
  for (const std::string_view text :
       {"", "{", "[1,]", "{\"a\":1,}", "{'a':1}", "[1] 2", "01", "+1", ".5", "NaN", "nul", "[1",
        "\"a", "\"\\x\"", "\"\t\"", "\"\\ud800\"", "1e999", "// c\n1", "[\x01]"}) {
    EXPECT_NE(Complaint(text), "") << text;
  }
}

TEST(ParseStrictJson, RefusesIllFormedUtf8) {
  for (const std::string_view text : {"\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
                                      "\"\xe2\x82\"", "\"\xf4\x90\x80\x80\"", "{\"\x80\":1}"}) {
    EXPECT_NE(Complaint(text), "");
  }
  EXPECT_EQ(Complaint("\"\xe2\x82\xac\""), "");
}

TEST(ParseStrictJson, RefusesMoreThan64Levels) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(Complaint(nested(64)), "");
  EXPECT_THAT(Complaint(nested(65)), HasSubstr("64"));
  EXPECT_THAT(Complaint(std::string(1'000'000, '[')), HasSubstr("64"));
}

TEST(ParseStrictJson, RefusesObjectsOfMoreThan4096Members) {
  const auto object = [](int count) {
    std::string text = "{\"k\":0";
    for (int i = 1; i < count; ++i) text += ",\"" + std::to_string(i) + "\":0";
    return text + "}";
  };
  EXPECT_EQ(Complaint(object(4096)), "");
  EXPECT_THAT(Complaint(object(4097)), HasSubstr("4096"));
}

TEST(FormatFloat, IsTheShortestDecimalThatReadsBackTheSame) {
  EXPECT_EQ(FormatFloat(0.1F), "0.1");
  EXPECT_EQ(FormatFloat(-1.0F), "-1.0");
  EXPECT_EQ(FormatFloat(-0.0F), "-0.0");
  EXPECT_EQ(FormatFloat(-11.432109F), "-11.432109");
  EXPECT_EQ(FormatFloat(INFINITY), "null");
  uint32_t bits = 1;
  for (int i = 0; i < 100'000; ++i) {
    bits = bits * 1664525 + 1013904223;  // Numerical Recipes' generator: any bit pattern will do.
    const auto value = std::bit_cast<float>(bits);
    if (!std::isfinite(value)) continue;
    const std::string text = FormatFloat(value);
    EXPECT_EQ(std::bit_cast<uint32_t>(std::strtof(text.c_str(), nullptr)), bits) << text;
    EXPECT_EQ(static_cast<float>(nlohmann::json::parse(text).get<double>()), value) << text;
  }
}

TEST(JsonWriter, WritesWhatAParserReadsBack) {
  JsonWriter json;
  json.BeginObject().Key("a").BeginArray().Int(1).Float(0.5F).Null().BeginObject().EndObject();
  json.EndArray()
      .Key("b\"\\\n\x01\x7f")
      .String("\xe2\x82\xac\xff")
      .Key("c")
      .Bool(false)
      .EndObject();
  const auto parsed = nlohmann::json::parse(json.text());
  EXPECT_EQ(parsed["a"], nlohmann::json::parse("[1,0.5,null,{}]"));
  EXPECT_EQ(parsed["b\"\\\n\x01\x7f"], "\xe2\x82\xac\xef\xbf\xbd");
  EXPECT_EQ(parsed["c"], false);
}

TEST(StopMatcher, CutsBeforeTheFirstMatchHoweverTheTextIsSplit) {
  const std::string text = "aabaabaaac and more";
  for (size_t step = 1; step <= text.size(); ++step) {
    StopMatcher matcher({"aabaaa", "zzz"});
    std::string out;
    for (size_t at = 0; at < text.size(); at += step) {
      out += matcher.Push(std::string_view(text).substr(at, step));
      EXPECT_TRUE(text.starts_with(out));
    }
    out += matcher.Finish();
    EXPECT_TRUE(matcher.matched());
    EXPECT_EQ(out, "aab") << "step " << step;
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBeginAStopString) {
  StopMatcher matcher({"END", "ENOUGH"});
  EXPECT_EQ(matcher.Push("the E"), "the ");
  EXPECT_EQ(matcher.Push("N"), "");
  EXPECT_EQ(matcher.Push("x"), "ENx");
  EXPECT_EQ(matcher.Push("ENO"), "");
  EXPECT_EQ(matcher.Finish(), "ENO");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcher, MatchesHiddenTextWhereItStandsAndShowsNoneOfIt) {
  StopMatcher matcher({"<end>", "done<stop>"});
  EXPECT_EQ(matcher.Push("all do"), "all ");
  EXPECT_EQ(matcher.PushHidden("<other>"), "do");
  EXPECT_EQ(matcher.PushHidden("<e"), "");
  EXPECT_EQ(matcher.Push("x, done"), "x, ");
  EXPECT_EQ(matcher.PushHidden("<stop>"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.Finish(), "");
  StopMatcher unmatched({"<end>"});
  EXPECT_EQ(unmatched.PushHidden("<en"), "");
  EXPECT_EQ(unmatched.Finish(), "");
}

}  // namespace
}  // namespace shoal::gateway
