// Keywords that ask for several things of a value at once: multiples within bounds, patterns beside
// lengths, formats, arrays without duplicates, names of members.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/parallel/grammar/support.h"

namespace shoal::text::grammar {
namespace {

using testing::HasSubstr;

TEST(GrammarNumbers, AreMultiplesOfIntegers) {
  CheckSchemas({
      {R"({"type":"integer","multipleOf":7})",
       {"0", "7", "-7", "14", "700", "1000000000000001"},
       {"1", "-6", "71", "1000000000000000", "07", "-0", "7.0"}},
      {R"({"type":"integer","multipleOf":1000})",
       {"0", "1000", "-23000", "9999999999999000"},
       {"100", "1", "10500", "10000000000000000"}},
      {R"({"type":"integer","multipleOf":86400,"minimum":1})", {"86400", "8640000"}, {"0", "864"}},
      {R"({"type":"number","multipleOf":5})", {"0", "15", "-20"}, {"15.0", "2.5", "1e1"}},
      {R"({"type":"integer","multipleOf":12,"exclusiveMinimum":24,"maximum":144})",
       {"36", "48", "144"},
       {"24", "12", "156", "-36", "37"}},
      {R"({"type":"integer","multipleOf":1e30})", {"0"}, {"10"}},
  });
}

TEST(GrammarNumbers, AreMultiplesOfFractions) {
  CheckSchemas({
      {R"({"type":"number","multipleOf":0.01})",
       {"0", "1", "-1.5", "19.99", "0.50", "0.07"},
       {"0.001", "19.999", "1.", ".5", "-0", "-0.00"}},
      {R"({"type":"number","multipleOf":0.5})", {"0.5", "3", "2.0", "-7.5"}, {"0.25", "0.50"}},
      {R"({"type":"number","multipleOf":0.25,"minimum":0.3,"maximum":1})",
       {"0.5", "0.75", "1", "1.00", "1.0"},
       {"0.25", "0.3", "1.25", "0.55", "0"}},
      {R"({"type":"number","multipleOf":2.5})", {"2.5", "5", "5.0", "12.5"}, {"2", "0.5", "3.5"}},
      {R"({"type":"integer","multipleOf":0.5})", {"1", "3"}, {"0.5"}},
      {R"({"type":"integer","multipleOf":2.5})", {"5", "-10"}, {"2", "2.5"}},
      {R"({"type":"number","multipleOf":1e-7})", {"0.0000001", "2"}, {"0.00000001"}},
  });
}

TEST(GrammarNumbers, StayWithinFractionalBounds) {
  CheckSchemas({
      {R"({"type":"number","minimum":0.5})",
       {"0.5", "0.50", "0.51", "1", "7.25", "123456"},
       {"0.4", "0.49", "0", "0.05", "-1", "-0.5", "5e1"}},
      {R"({"type":"number","exclusiveMinimum":-0.5,"exclusiveMaximum":1.25})",
       {"-0.49", "0", "1", "1.2", "1.24999", "-0.1", "0.0"},
       {"-0.5", "-0.50", "1.25", "1.250", "1.3", "2", "12", "-1", "-0"}},
      {R"({"type":"number","minimum":-1.5,"maximum":-0.25})",
       {"-1.5", "-1", "-0.25", "-0.250", "-1.0"},
       {"-1.51", "-0.2", "0", "-2", "-10"}},
      {R"({"type":"number","minimum":0.001,"maximum":0.002})", {"0.001", "0.0015"}, {"0.01", "0"}},
      {R"({"type":"integer","minimum":0.5,"exclusiveMaximum":3.5})",
       {"1", "2", "3"},
       {"0", "4", "1.5"}},
      {R"({"type":"integer","exclusiveMinimum":-0.5,"maximum":0})", {"0"}, {"-1", "1"}},
      {R"({"type":"integer","maximum":9223372036854775807})", {"9999999999999999", "-5"}, {}},
      // What binary64 cannot tell from the bound is not written.
      {R"({"type":"number","exclusiveMinimum":5})",
       {"5.00000000000001"},
       {"5.000000000000001", "5.0000000000000001", "5"}},
      {R"({"type":"number","minimum":1,"exclusiveMinimum":true})", {"1.5", "2"}, {"1", "1.0"}},
      {R"({"type":"number","maximum":1,"exclusiveMaximum":false})", {"1"}, {"1.5"}},
      {R"({"type":"integer","format":"int8"})", {"-128", "127"}, {"128", "-129"}},
      {R"({"type":"number","format":"uint16"})", {"0", "65535"}, {"-1", "65536", "1.5"}},
      {R"({"type":"number","format":"double"})", {"1.5e3", "-0"}, {}},
      {R"({"allOf":[{"type":"integer","minimum":1,"maximum":9},{"minimum":3,"maximum":20}]})",
       {"3", "9"},
       {"2", "10"}},
  });
}

TEST(GrammarNumbers, RefuseWhatCannotBeHeld) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"multipleOf":0})", "#/multipleOf: must be above 0"},
      {R"({"multipleOf":-2})", "#/multipleOf: must be above 0"},
      {R"({"multipleOf":"2"})", "#/multipleOf: must be a number"},
      {R"({"multipleOf":4097})", "#/multipleOf: must, without the powers of ten in it, be at most"},
      {R"({"multipleOf":0.30000000000000004})", "#/multipleOf: must"},
      {R"({"type":"integer","multipleOf":4093,"minimum":3,"maximum":9000000000000000})",
       "too much work together"},
      {R"({"type":"integer","multipleOf":10,"minimum":1,"maximum":9})",
       "no number of at most 16 digits is within its bounds and a multiple as asked for"},
      {R"({"type":"integer","minimum":0.25,"maximum":0.75})", "no number of at most 16 digits"},
      {R"({"type":"number","exclusiveMinimum":0.5,"maximum":0.5})", "no number of at most 15"},
      {R"({"type":"number","minimum":0.5,"maximum":0.25})", "minimum is above its maximum"},
      {R"({"minimum":1e-300})", "#/minimum: must have at most 40 digits"},
      {R"({"type":"integer","format":"int31"})", "#/format: the format \"int31\" of numbers"},
  };
  for (const auto& [schema, complaint] : cases) {
    EXPECT_THAT(Refusal(Schema(schema)), HasSubstr(complaint)) << schema;
  }
}

TEST(GrammarStrings, HavePatternFormatAndLengthsAtOnce) {
  CheckSchemas({
      {R"({"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":4})",
       {"\"ab\"", "\"abcd\""},
       {"\"a\"", "\"abcde\"", "\"aB\""}},
      // Characters count, not bytes and not escapes.
      {R"({"type":"string","pattern":"b","minLength":3,"maxLength":4})",
       {"\"abc\"", R"("\n\"b")",
        "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"
        "b\"",
        R"("b\u0001\\\n")"},
       {"\"ab\"", "\"acd\"", "\"abcde\"", R"("\n\n\n\nb")"}},
      {R"({"type":"string","pattern":"^(aaa)*$","minLength":4,"maxLength":8})",
       {"\"aaaaaa\""},
       {"\"\"", "\"aaa\"", "\"aaaaa\"", "\"aaaaaaaaa\""}},
      {R"({"type":"string","pattern":"^a*$","minLength":3})", {"\"aaa\"", "\"aaaaa\""}, {"\"aa\""}},
      {R"({"type":"string","format":"date","pattern":"^2"})",
       {"\"2024-01-31\""},
       {"\"1999-01-31\"", "\"2024-01-32\"", "\"2\""}},
      {R"({"type":"string","format":"email","maxLength":10})",
       {"\"ab@cd.de\""},
       {"\"abcdef@cd.de\""}},
      {R"({"type":"string","format":"uri","pattern":"^https://","minLength":1,"maxLength":2083})",
       {"\"https://a.b/c?d#e\""},
       {"\"http://a\"", "\"https://a b\""}},
      {R"({"type":"string","pattern":"^.*$","maxLength":1000000000})", {"\"ab\""}, {R"("\n")"}},
      {R"({"allOf":[{"type":"string","minLength":2,"maxLength":9},{"minLength":1,"maxLength":3}]})",
       {"\"ab\"", "\"abc\""},
       {"\"a\"", "\"abcd\""}},
  });
}

TEST(GrammarStrings, RefuseDemandsThatExcludeEachOtherOrTakeTooMuchWork) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"pattern":"^(aaa)*$","minLength":4,"maxLength":5})",
       "#: no string has its pattern, format and lengths all at once"},
      {R"({"pattern":"x","format":"date"})", "no string has its pattern, format"},
      {R"({"format":"ipv4","minLength":16})", "no string has its pattern, format"},
      {R"({"pattern":"a.{0,60}b.{0,60}c","maxLength":200})", "#/pattern: patterns, lengths"},
      {R"({"pattern":"^(a{1,100}){1,100}$","maxLength":200})", "#/pattern: too ambiguous"},
      {R"({"pattern":"(","maxLength":2})", "#/pattern: regular expression, byte 1"},
      {R"({"pattern":"a","format":"iri"})", "#/format: the format \"iri\" is not supported"},
  };
  for (const auto& [schema, complaint] : cases) {
    EXPECT_THAT(Refusal(Schema(schema)), HasSubstr(complaint)) << schema;
  }
}

TEST(GrammarFormats, HoldAddressesAndNames) {
  const auto quoted = [](std::vector<std::string> texts) {
    for (std::string& text : texts) text = "\"" + text + "\"";
    return texts;
  };
  const std::string label(63, 'a');
  CheckSchemas({
      {R"({"format":"ipv6"})",
       quoted({"::", "::1", "1::", "1:2:3:4:5:6:7:8", "fe80::AbCd:12", "1:2:3:4:5:6:7::",
               "::2:3:4:5:6:7:8", "::ffff:192.0.2.1", "1:2:3:4:5:6:1.2.3.4", "1::3:4:5:6:1.2.3.4"}),
       quoted({"", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3",
               "12345::", "1:", ":1:2:3:4:5:6:7", "::1.2.3", "::256.0.0.1", "1:2:3:4:5:6:7:1.2.3.4",
               "::1%eth0", "1:2:3:4::5:6:7:8", "g::", "::01.2.3.4"})},
      {R"({"format":"hostname"})",
       quoted({"localhost", "a.b.example", "a-b.de", "1a.example", "x1", label + ".de",
               label + "." + label + "." + label + "." + std::string(61, 'a')}),
       quoted({"", "-a", "a-", "a..b", ".a", "a.", "a_b", "1.2.3.4", label + "a.de",
               label + "." + label + "." + label + "." + std::string(62, 'a')})},
      {R"({"format":"uri"})",
       quoted({"https://user:pw@example.org:80/a/b;c?d=e&f#g", "mailto:a@b.example", "urn:isbn:0",
               "file:///etc/hosts", "http://[::1]:8080/", "http://[v1.a:b]", "a:", "x:/y%20z",
               "s:?q"}),
       quoted({"", "/a/b", "//a/b", "1a:b", "http://a b", "http://a/%2", "http://[::1", "a:b#c#d",
               "http://a/\xC3\xA9", "http://[::g]/", "a:[b]"})},
      {R"({"format":"duration"})",
       quoted({"P1D", "P3W", "P1Y2M3DT4H5M6S", "PT0S", "P1M", "PT1M", "P1YT1S", "PT36H"}),
       quoted({"", "P", "PT", "P1", "1D", "P1DT", "P1W2D", "P1Y2D", "PT1H2S", "P1S", "PT1D", "P-1D",
               "P1.5D", "PT1M1H"})},
  });
}

TEST(GrammarArrays, HoldEachValueOnceIfTheyAreToBeUnique) {
  CheckSchemas({
      {R"({"type":"array","uniqueItems":true,"items":{"enum":["a","b",1,null]}})",
       {"[]", "[1]", R"(["b","a"])", R"([null, 1, "a", "b"])"},
       {R"(["a","a"])", R"(["a","b","a"])", R"(["c"])", "[1,1]"}},
      {R"({"type":"array","uniqueItems":true,"items":{"type":["boolean","null"]},"minItems":2})",
       {"[true,false]", "[null,true]", "[false,null,true]"},
       {"[]", "[true]", "[true,true]"}},
      {R"({"type":"array","uniqueItems":true,"items":{"enum":[1,2,3]},"minItems":1,"maxItems":2})",
       {"[3]", "[2,1]"},
       {"[]", "[1,2,3]", "[2,2]"}},
      // 1 and 1.0 are one value, and so are objects whose members come in another order.
      {R"({"uniqueItems":true,"items":{"enum":[1,1.0,{"a":1,"b":2},{"b":2,"a":1}]}})",
       {R"([{"a":1,"b":2},1])"},
       {"[1,1.0]", R"([{"a":1,"b":2},{"b":2,"a":1}])"}},
      {R"({"type":"array","uniqueItems":true,"items":{"$ref":"#/$defs/e"},)"
       R"("$defs":{"e":{"anyOf":[{"const":"x"},{"enum":["x","y"],"nullable":true}]}}})",
       {R"(["y","x",null])"},
       {R"(["x","x"])", "[null,null]"}},
      {R"({"type":"array","uniqueItems":true,"maxItems":1})", {"[]", "[{}]"}, {"[1,2]"}},
      {R"({"type":"array","uniqueItems":false})", {"[1,1]"}, {}},
  });
}

TEST(GrammarArrays, RefuseUniqueItemsOfManyValues) {
  std::string many = "[0";
  for (int i = 1; i < 13; ++i) many += "," + std::to_string(i);
  const std::pair<std::string, std::string> cases[] = {
      {R"({"type":"array","uniqueItems":true})", "#/uniqueItems: uniqueItems is supported where"},
      {R"({"items":{"type":"string"},"uniqueItems":true})", "#/uniqueItems: uniqueItems is"},
      {R"({"prefixItems":[{"const":1}],"items":{"const":2},"uniqueItems":true})", "#/uniqueItems"},
      {R"({"items":{"enum":[1,2,2]},"uniqueItems":true,"minItems":3})",
       "#/minItems: is above the number of values that differ, which is 2"},
      {R"({"uniqueItems":true,"items":{"enum":)" + many + "]}}",
       "too many ways to choose among 13 values"},
      {R"({"uniqueItems":true,"items":{"anyOf":[{"$ref":"#/items"}]}})", "nested deeper than 64"},
      {R"({"uniqueItems":"yes"})", "#/uniqueItems: must be true or false"},
  };
  for (const auto& [schema, complaint] : cases) {
    EXPECT_THAT(Refusal(Schema(schema)), HasSubstr(complaint)) << schema;
  }
  EXPECT_EQ(Refusal(Schema(R"({"uniqueItems":true,"maxItems":3,"items":{"enum":)" + many + "]}}")),
            "");
}

TEST(GrammarObjects, HaveNamesAsPropertyNamesSays) {
  const std::string rest = R"(,"additionalProperties":{"type":"integer"}})";
  CheckSchemas({
      {R"({"propertyNames":{"pattern":"^[a-z]+$"})" + rest,
       {"{}", R"({"a":1,"bc":2})"},
       {R"({"A":1})", R"({"":1})", R"({"\u0061":1})"}},
      {R"({"propertyNames":{"enum":["a","b",3]})" + rest, {R"({"b":1,"a":2})"}, {R"({"c":1})"}},
      {R"({"propertyNames":{"minLength":2,"maxLength":3})" + rest,
       {R"({"ab":1})", "{\"\xC3\xA9\xE2\x82\xAC\":1}", R"({"\n\"":1})"},
       {R"({"a":1})", R"({"abcd":1})"}},
      {R"({"propertyNames":{"format":"ipv4"})" + rest, {R"({"1.2.3.4":1})"}, {R"({"1.2":1})"}},
      {R"({"propertyNames":{"type":"string"})" + rest, {R"({"":1})"}, {}},
      // A declared name that is not allowed is never written.
      {R"({"properties":{"xa":{"type":"null"},"b":{"type":"null"}},"required":["xa"],)"
       R"("propertyNames":{"$ref":"#/$defs/n"},"$defs":{"n":{"pattern":"x","maxLength":3}})" +
           rest,
       {R"({"xa":null})", R"({"xa":null,"x":1})"},
       {"{}", R"({"xa":null,"b":null})", R"({"xa":null,"b":1})", R"({"xa":null,"xa":1})"}},
  });
  EXPECT_THAT(Refusal(Schema(R"({"required":["b"],"propertyNames":{"pattern":"x"}})")),
              HasSubstr("#/required: \"b\" is required and not among"));
  EXPECT_THAT(Refusal(Schema(R"({"propertyNames":{"type":"integer"}})")),
              HasSubstr("#/propertyNames: names are strings"));
  EXPECT_THAT(Refusal(Schema(R"({"propertyNames":{"anyOf":[{}]}})")),
              HasSubstr("#/propertyNames/anyOf: anyOf is not supported in propertyNames"));
}

TEST(GrammarObjects, HaveMembersAsThePatternsOfTheirNamesSay) {
  CheckSchemas({
      {R"({"patternProperties":{"^s":{"type":"string"},"i$":{"type":["integer","string"]}}})",
       {"{}", R"({"sa":"x","ai":1,"si":"y"})"},
       {R"({"si":1})", R"({"sa":1})", R"({"b":1})"}},
      {R"({"patternProperties":{"^s":{"type":"string"}},"additionalProperties":{"type":"null"}})",
       {R"({"s":"x","a":null})"},
       {R"({"s":null})", R"({"a":"x"})"}},
      {R"({"properties":{"sa":{"maxLength":2,"type":"string"},"b":false},"required":["sa","sb"],)"
       R"("patternProperties":{"^s":{"type":"string","minLength":1}},"additionalProperties":{}})",
       {R"({"sa":"x","sb":"xyz","c":1})"},
       {R"({"sa":"","sb":"x"})", R"({"sa":"xyz","sb":"x"})", R"({"sa":"x"})",
        R"({"sa":"x","sb":"x","b":1})"}},
      {R"({"patternProperties":{"^s":false},"additionalProperties":{"type":"null"}})",
       {R"({"a":null})"},
       {R"({"s":null})"}},
  });
  EXPECT_THAT(Refusal(Schema(R"x({"patternProperties":{"(?=a)":{}}})x")),
              HasSubstr("#/patternProperties/(?=a): regular expression, byte 1: look-ahead"));
}

TEST(GrammarObjects, CountTheirMembers) {
  const std::string three = R"({"properties":{"a":{"const":1},"b":{"const":2},"c":{"const":3}},)";
  CheckSchemas({
      {three + R"("minProperties":2,"maxProperties":2})",
       {R"({"a":1,"b":2})", R"({"a":1,"c":3})", R"({"b":2,"c":3})"},
       {"{}", R"({"b":2})", R"({"a":1,"b":2,"c":3})"}},
      {three + R"("maxProperties":2,"required":["c"]})",
       {R"({"c":3})", R"({"b":2,"c":3})"},
       {"{}", R"({"a":1,"b":2})", R"({"a":1,"b":2,"c":3})"}},
      // Others may have the same name, so they count as one.
      {three + R"("minProperties":3,"additionalProperties":{"type":"null"}})",
       {R"({"a":1,"b":2,"c":3})", R"({"a":1,"c":3,"d":null})",
        R"({"b":2,"c":3,"d":null,"e":null})"},
       {R"({"a":1,"d":null,"e":null})", R"({"a":1,"b":2})"}},
      {R"({"minProperties":1,"maxProperties":2})",
       {R"({"a":1})", R"({"a":1,"b":2})"},
       {"{}", R"({"a":1,"b":2,"c":3})"}},
      {R"({"maxProperties":0})", {"{}"}, {R"({"a":1})"}},
  });
  EXPECT_THAT(Refusal(Schema(R"({"minProperties":2})")), HasSubstr("#/minProperties: is above"));
  EXPECT_THAT(Refusal(Schema(R"({"required":["a","b"],"maxProperties":1})")),
              HasSubstr("maxProperties is below"));
}

}  // namespace
}  // namespace shoal::text::grammar
