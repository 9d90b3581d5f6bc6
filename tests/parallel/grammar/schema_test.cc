// JSON schemas: valid answers that must be possible, others that must not, and refusals that name
// the keyword and its place.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/parallel/grammar/support.h"

namespace shoal::text::grammar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(GrammarSchema, HoldsScalars) {
  CheckSchemas({
      {R"({"type":"boolean"})", {"true", "false"}, {"null", "True", " true", "true "}},
      {R"({"type":"null"})", {"null"}, {"0"}},
      {R"({"type":"integer"})",
       {"0", "-1", "42", "9999999999999999"},
       {"01", "-0", "1.0", "+1", "-"}},
      {R"({"type":"number"})",
       {"0", "-0.5", "1e5", "3.14E-2", "-0"},
       {".5", "1.", "1e", "01", "1e999", "NaN"}},
      {R"({"type":"string"})",
       {R"("")", R"("a\n\"\\\/")", "\"\xC3\xA9\xF0\x9F\x98\x80\"", R"("\u00e9\ud83d\ude00")"},
       {"\"", R"("a)", "\"\n\"", R"("\ud83d")", R"("\ude00")", R"("\x")", "\"\xC3\"",
        "\"\xED\xA0\x80\""}},
      {R"({"type":["string","null"]})", {"null", "\"x\""}, {"1"}},
      {R"({"enum":["a",1,null,{"b":[2]}]})",
       {"\"a\"", "1", "null", R"({"b":[2]})"},
       {"\"b\"", "2"}},
      {R"({"type":"string","enum":["a",1]})", {"\"a\""}, {"1"}},
      {R"({"type":"integer","enum":[0,1,300,"a"],"format":"uint8"})", {"0", "1"}, {"300", "\"a\""}},
      {R"({"enum":["a","abc","b",7,null],"maxLength":2,"pattern":"a","minimum":9})",
       {"\"a\"", "null"},
       {"\"abc\"", "\"b\"", "7"}},
      {R"({"enum":[0.5,2,1e20,-4,7],"multipleOf":2,"minimum":0})",
       {"2", "1e+20"},
       {"0.5", "-4", "7"}},
      {R"({"allOf":[{"enum":[1,2,3]},{"enum":[3,2.0]},{"const":3}]})", {"3"}, {"1", "2"}},
      {R"({"const":"x y"})", {"\"x y\""}, {"\"x\""}},
  });
}

TEST(GrammarSchema, CountsCharactersNotBytes) {
  CheckSchemas({{R"({"type":"string","minLength":2,"maxLength":3})",
                 {"\"ab\"", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"", R"("\n\u00e9")",
                  R"("a\ud83d\ude00")"},
                 {"\"a\"", "\"abcd\"", R"("\ud83d\ude00")"}}});
}

TEST(GrammarSchema, BoundsNumbers) {
  CheckSchemas({
      {R"({"type":"integer","minimum":-12,"maximum":105})",
       {"-12", "-9", "-1", "0", "7", "99", "100", "105"},
       {"-13", "-20", "106", "110", "200", "-0", "1000"}},
      {R"({"type":"integer","exclusiveMinimum":3,"exclusiveMaximum":5})", {"4"}, {"3", "5", "40"}},
      {R"({"type":"integer","minimum":0.5})", {"1", "10"}, {"0", "-1"}},
      {R"({"type":"integer","minimum":7})", {"7", "10", "123456"}, {"6", "-7", "07"}},
      {R"({"type":"integer","maximum":-5})", {"-5", "-10"}, {"-4", "5", "0"}},
      {R"({"type":"number","minimum":0})", {"0", "0.25", "12.5"}, {"-1", "-0.5", "-0"}},
      {R"({"type":"number","exclusiveMinimum":0,"maximum":1})",
       {"0.5", "0.01", "1"},
       {"0", "0.0", "1.5", "1.0001", "-0.5"}},
      {R"({"type":"number","minimum":-2,"exclusiveMaximum":-1})",
       {"-2", "-1.5"},
       {"-1", "-1.0", "-2.5"}},
      {R"({"type":"number","minimum":-1,"maximum":1})",
       {"-1", "-0.5", "0", "0.5", "1"},
       {"-1.5", "2"}},
  });
}

TEST(GrammarSchema, HoldsObjectsInTheOrderOfTheirProperties) {
  const std::string schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},)"
      R"("c":{"type":"null"}},"required":["b"]})";
  CheckSchemas({
      {schema,
       {R"({"b":"x"})", R"({"a":1,"b":"x","c":null})", R"({"b": "x", "c": null})",
        "{\n  \"a\": 1,\n  \"b\": \"x\"\n}", R"({ "b":"" })"},
       {"{}", R"({"a":1})", R"({"b":"x","a":1})", R"({"b":"x",})", R"({"b":"x","d":1})",
        R"({"b" :"x"})", R"({"b":"x" ,"c":null})", R"({"b":"x"}})"}},
      {R"({"type":"object","properties":{"a":{}}})", {"{}", R"({"a":[{}]})"}, {R"({"b":1})"}},
      {R"({"properties":{"a":{"type":"null"}}})", {"{}", R"({"a":null})"}, {R"({"a":1})", "1"}},
      {R"({"type":"object"})", {"{}", R"({"x":{"y":[1,2]}})"}, {"[]"}},
      {R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"a":1})"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"}})",
       {"{}", R"({"x":1,"y":2})"},
       {R"({"x":"1"})"}},
      {R"({"type":"object","required":["z"]})", {R"({"z":1,"y":2})"}, {"{}", R"({"y":2})"}},
  });
}

TEST(GrammarSchema, KeepsOtherNamesApartFromDeclaredOnes) {
  CheckSchemas(
      {{R"({"type":"object","properties":{"ab":{"type":"null"},"\u00e9\"":{"type":"null"}},)"
        R"("additionalProperties":{"type":"integer"}})",
        {R"({"ab":null,"a":1})", R"({"abc":1})", R"({"":1})", R"({"b":1,"c":2})", R"({"\n":1})",
         "{\"\xC3\xA9\":1}", "{\"\xC3\xA9\\\"\":null,\"x\":1}"},
        {R"({"ab":1})", R"({"a":null})", R"({"a\u0062":1})", R"({"c":1,"ab":2})",
         "{\"\xC3\xA9\\\"\":1}"}}});
}

TEST(GrammarSchema, HoldsArrays) {
  CheckSchemas({
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
       {"[1]", "[1,2,3]", "[1, 2]", "[\n  1,\n  2\n]"},
       {"[]", "[1,2,3,4]", "[1,]", "[\"a\"]"}},
      {R"({"type":"array"})", {"[]", "[[],{},1]"}, {"{}"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})",
       {"[]", "[1]", "[1,\"a\"]"},
       {"[\"a\"]", "[1,\"a\",2]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"null"},)"
       R"("minItems":2})",
       {"[1,null]", "[1,null,null]"},
       {"[1]", "[null,null]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"null"}],"maxItems":1})",
       {"[]", "[1]"},
       {"[1,null]"}},
  });
}

TEST(GrammarSchema, CombinesSchemas) {
  CheckSchemas({
      {R"({"anyOf":[{"type":"integer"},{"type":"string"}]})", {"1", "\"a\""}, {"null"}},
      {R"({"oneOf":[{"const":1},{"const":12}]})", {"1", "12"}, {"2"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}},)"
       R"("anyOf":[{"required":["a"]},{"properties":{"b":{"type":"null"}},"required":["b"]}]})",
       {R"({"a":1})", R"({"b":null})", R"({"a":1,"b":null})"},
       {"{}"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"number"}}},)"
       R"({"properties":{"a":{"type":"integer"},"b":{}},"required":["a"]}]})",
       {R"({"a":1})", R"({"a":1,"b":2})"},
       {R"({"a":1.5})", "{}"}},
      {R"({"allOf":[{"$ref":"#/$defs/x"}],"$defs":{"x":{"const":5}}})", {"5"}, {"6"}},
      // What closes an object says the same beside schemas that name nothing else.
      {R"({"type":"object","allOf":[{"$ref":"#/$defs/x"},{"required":["a"]}],"$defs":{"x":)"
       R"({"properties":{"a":{"const":1},"b":{}},"additionalProperties":false}}})",
       {R"({"a":1})", R"({"a":1,"b":2})"},
       {"{}", R"({"a":1,"c":2})"}},
      {R"({"allOf":[{"prefixItems":[{"const":1}],"items":{"const":2}},{"minItems":2}]})",
       {"[1,2]", "[1,2,2]"},
       {"[1]", "[1,1]"}},
      {"true", {"1", "{}", "[null]"}, {"x"}},
      {"{}", {"1", "{}", "[null]"}, {"x"}},
  });
}

TEST(GrammarSchema, FollowsReferencesAndRecursion) {
  CheckSchemas(
      {{R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":)"
        R"({"v":{"type":"integer"},"next":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/node"}]}},)"
        R"("required":["v","next"]}}})",
        {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":{"v":3,"next":null}}})"},
        {R"({"v":1})", R"({"v":1,"next":{"v":2}})"}},
       {R"({"type":"array","items":{"$ref":"#"}})", {"[]", "[[],[[]]]"}, {"[1]"}},
       {R"({"definitions":{"a/b~c":{"const":1}},"$ref":"#/definitions/a~1b~0c"})", {"1"}, {"2"}},
       {R"({"anyOf":[{"type":"object","properties":{"x":{"$ref":"#"}},"required":["x"]},)"
        R"({"type":"object","properties":{"y":{"$ref":"#"}},"required":["y"]},{"type":"null"}]})",
        {"null", R"({"x":{"y":{"x":null}}})"},
        {R"({"x":{"x":1}})"}}});
}

TEST(GrammarSchema, HoldsPatternsAndFormats) {
  CheckSchemas({
      {R"({"type":"string","pattern":"^[a-z]+\\d$"})", {"\"ab1\""}, {"\"1\"", "\"ab1x\""}},
      {R"({"type":"string","pattern":"b"})", {"\"b\"", "\"abc\"", R"("\"b\n")"}, {"\"a\""}},
      {R"({"type":"string","pattern":"^.\\\"$"})",
       {R"("x\"")", R"("\"\"")"},
       {R"("x")", "\"x\"\""}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-28\""},
       {"\"2024-02-30\"", "\"24-1-1\""}},
      {R"({"type":"string","format":"date-time"})",
       {"\"2024-12-31T23:59:59Z\"", "\"2024-01-01T00:00:00.5+01:00\""},
       {"\"2024-12-31\""}},
      {R"({"type":"string","format":"uuid"})",
       {"\"123e4567-e89b-12d3-a456-426614174000\""},
       {"\"123e4567\""}},
      {R"({"type":"string","format":"ipv4"})",
       {"\"192.168.0.255\""},
       {"\"256.1.1.1\"", "\"1.1.1\""}},
      {R"({"type":"string","format":"email"})", {"\"a.b@example.org\""}, {"\"a@b\"", "\"@x.de\""}},
  });
}

TEST(GrammarSchema, RefusesKeywordsByNameAndPlace) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"type":"object","properties":{"age":{"type":"integer","divisibleBy":2}}})",
       "#/properties/age/divisibleBy"},
      {R"({"anyOf":[{"type":"null"},{"not":{}}]})", "#/anyOf/1/not"},
      {R"({"$ref":"#/$defs/a","$defs":{"a":{"if":{}}}})", "#/$defs/a/if"},
      {R"({"type":"object","dependentRequired":{}})", "#/dependentRequired"},
      {R"({"type":"object","unevaluatedProperties":false})", "#/unevaluatedProperties"},
      {R"({"properties":{"a/b":{"contains":{}}}})", "#/properties/a~1b/contains"},
      {R"({"order":1})", "#/order"},
  };
  for (const auto& [schema, place] : cases) {
    EXPECT_THAT(Refusal(Schema(schema)), AllOf(HasSubstr(place + ": the keyword"),
                                               HasSubstr("supported are type, enum, const")))
        << schema;
  }
}

TEST(GrammarSchema, RefusesWhatCannotBeHeld) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"3", "must be an object or true"},
      {"false", "must be an object or true"},
      {R"({"type":"float"})", "#/type: must be object"},
      {R"({"type":[]})", "at least one type"},
      {R"({"enum":[]})", "#/enum: must be an array"},
      {R"({"enum":[1],"type":"string"})", "no value has the type"},
      {R"({"enum":[{}],"properties":{}})", "#/properties: properties is not supported beside enum"},
      {R"({"enum":[1],"minimum":2})", "#/enum: no value has the type that is asked for and suits"},
      {R"({"allOf":[{"enum":[1]},{"enum":[2]}]})",
       "enums that are combined have nothing in common"},
      {R"({"$ref":"#/$defs/a"})", "nothing stands at #/$defs"},
      {R"({"$ref":"http://x/y"})", "references into the same document"},
      {R"({"$ref":"#"})", "nothing finite matches"},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
       "nothing finite matches"},
      {R"({"allOf":[{"$ref":"#"}]})", "nested deeper than 64"},
      {R"({"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"$ref":"#/$defs/a"}}})",
       "refer to each other"},
      {R"({"required":["a"],"properties":{}})", "\"a\" is required and not among"},
      {R"({"minItems":2,"maxItems":1})", "minItems is above maxItems"},
      {R"({"minLength":2,"maxLength":1})", "minLength is above maxLength"},
      {R"({"minLength":-1})", "#/minLength: must be a whole number"},
      {R"x({"pattern":"(?=a)"})x", "#/pattern: regular expression, byte 1: look-ahead"},
      {R"({"format":"iri"})", "#/format: the format \"iri\" is not supported; supported are date,"},
      {R"({"type":"integer","minimum":2,"maximum":1})", "minimum is above"},
      {R"({"type":"integer","minimum":1e30})", "at most 16 digits"},
      {R"({"items":false,"minItems":1})", "above the number of items"},
      {R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})", "pattern stands twice"},
      {R"({"allOf":[{"multipleOf":2},{"multipleOf":3}]})", "multipleOf stands twice"},
      {R"({"allOf":[{"type":"null"},{"type":"string"}]})", "nothing in common"},
      {R"({"allOf":[{"additionalProperties":false},{"properties":{"a":{}}}]})",
       "cannot be combined with properties"},
  };
  for (const auto& [schema, complaint] : cases) {
    EXPECT_THAT(Refusal(Schema(schema)), HasSubstr(complaint)) << schema;
  }
  std::string deep = "true";
  for (int i = 0; i < 70; ++i) deep = R"({"items":)" + deep + "}";
  EXPECT_THAT(Refusal(Schema(deep)), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(Refusal(Schema(std::string(20'000, '['))), HasSubstr("nested deeper than 128"));
}

std::string List(const char* item, int count) {
  std::string list = "[";
  for (int i = 0; i < count; ++i) list += std::string(i > 0 ? "," : "") + item;
  return list + "]";
}

TEST(GrammarSchema, BoundsWhatCombiningSchemasMultiplies) {
  const std::string text = R"("const":")" + std::string(2000, 'a') + "\"";
  for (const char* keyword : {"anyOf", "allOf"}) {
    const std::string many = "{" + text + ",\"" + keyword + "\":" + List("{}", 10'000) + "}";
    EXPECT_THAT(Refusal(Schema(many)), HasSubstr("too many schemas are combined")) << keyword;
  }
  // Keywords that change nothing add no work when schemas are merged.
  EXPECT_EQ(Refusal(Schema(R"({"default":)" + List("[]", 10'000) + R"(,"anyOf":)" +
                           List("{}", 10'000) + "}")),
            "");
}

TEST(GrammarJsonObject, HoldsAnyObjectAndBoundsItsNestingAndWhiteSpace) {
  const GrammarSource object{GrammarKind::kJsonObject, ""};
  for (const char* text : {"{}", R"({"a":[1,{"b":null}],"c":"d"})", "{\n    \"a\": 1\n}"}) {
    EXPECT_TRUE(Matches(object, text)) << text;
  }
  for (const char* text : {"[]", "1", "{} ", "{  }", "{\"a\":  1}"}) {
    EXPECT_FALSE(Matches(object, text)) << text;
  }
  const auto nested = [](size_t depth) {
    return R"({"a":)" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_TRUE(Matches(object, nested(kRuleDepthMax)));
  EXPECT_FALSE(Matches(object, nested(kRuleDepthMax + 1)));
}

}  // namespace
}  // namespace shoal::text::grammar
