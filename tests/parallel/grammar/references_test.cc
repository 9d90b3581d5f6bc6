// References within a schema, `nullable` and null types, and keywords that change nothing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/parallel/grammar/support.h"

namespace shoal::text::grammar {
namespace {

using testing::HasSubstr;

TEST(GrammarReferences, ArePercentDecodedBeforeTheyAreReadAsPointers) {
  CheckSchemas({
      {R"({"$ref":"#/$defs/a%20b","$defs":{"a b":{"const":1}}})", {"1"}, {"2"}},
      {R"({"$ref":"#/%24defs/a~1b%7E0%25","$defs":{"a/b~%":{"const":1}}})", {"1"}, {"2"}},
      {R"({"$ref":"#/$defs/%C3%a9","$defs":{"\u00e9":{"const":1}}})", {"1"}, {"2"}},
      {R"({"$ref":"#/$defs/a%2Fb","$defs":{"a":{"b":{"const":1}},"a/b":{"const":2}}})",
       {"1"},
       {"2"}},
      {R"({"$ref":"#/$defs/a%2520b","$defs":{"a%20b":{"const":1}}})", {"1"}, {"2"}},
      {R"({"$ref":"#/$defs/","$defs":{"":{"const":1}}})", {"1"}, {"2"}},
      {R"({"allOf":[{"$ref":"#/$defs/a%20b"}],"$defs":{"a b":{"const":1}}})", {"1"}, {"2"}},
  });
}

TEST(GrammarReferences, FollowAnchorsAndTheDocumentsOwnId) {
  CheckSchemas({
      {R"({"$ref":"#here","$defs":{"x":{"$anchor":"here","const":1},"y":{"const":)"
       R"({"$anchor":"here"}}}})",
       {"1"},
       {"2"}},
      {R"({"$id":"https://a.example/s","type":"array","items":{"$ref":"https://a.example/s"}})",
       {"[[],[[]]]"},
       {"[1]"}},
      {R"({"$id":"https://a.example/s","$ref":"https://a.example/s#/$defs/x",)"
       R"("$defs":{"x":{"const":1}}})",
       {"1"},
       {"2"}},
  });
}

TEST(GrammarReferences, HoldTogetherWithWhatStandsBesideThem) {
  CheckSchemas({
      {R"({"$ref":"#/$defs/a","minimum":3,"$defs":{"a":{"type":"integer","maximum":5}}})",
       {"3", "5"},
       {"2", "6", "\"a\""}},
      {R"({"type":"array","items":{"$ref":"#/$defs/a","maxLength":3,"nullable":true},)"
       R"("$defs":{"a":{"$ref":"#/$defs/b","minLength":2},"b":{"type":"string"}}})",
       {R"(["ab","abc",null])"},
       {R"(["a"])", R"(["abcd"])"}},
      {R"({"allOf":[{"$ref":"#/$defs/a","required":["k"]},{"properties":{"k":{"const":1}}}],)"
       R"("$defs":{"a":{"type":"object","properties":{"j":{"const":2}}}}})",
       {R"({"j":2,"k":1})", R"({"k":1})"},
       {R"({"j":2})"}},
  });
}

TEST(GrammarReferences, SayWhatIsWrongWithThem) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"$ref":"#/$defs/a%2","$defs":{}})", "#/$ref: % must be followed by two hexadecimal"},
      {R"({"$ref":"#/$defs/%zz","$defs":{}})", "#/$ref: % must be followed by two hexadecimal"},
      {R"({"$ref":"#/$defs/a~2","$defs":{}})", "#/$ref: ~ must be followed by 0"},
      {R"({"$ref":"#/$defs/a%20b","$defs":{}})", "nothing stands at #/$defs/a b"},
      {R"({"$ref":"#/a%FF"})", "nothing stands at #/a\xEF\xBF\xBD"},
      {R"({"$ref":"#here"})", "#/$ref: no schema has that $anchor"},
      {R"({"$ref":"#x","$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}}})", "several schemas"},
      {R"({"$ref":"other.json#/a"})", "only references into the same document"},
      {R"({"properties":{"a":{"$id":"b"}}})", "#/properties/a/$id: $id is supported at the top"},
      {R"({"$ref":"#/$defs/a","minLength":1,"$defs":{"a":{"$ref":"#/$defs/a","maxLength":2}}})",
       "nested deeper than 64"},
      {R"({"$ref":"#/$defs/a","pattern":"a","$defs":{"a":{"pattern":"b"}}})",
       "pattern stands twice"},
  };
  for (const auto& [schema, complaint] : cases) {
    EXPECT_THAT(Refusal(Schema(schema)), HasSubstr(complaint)) << schema;
  }
}

TEST(GrammarNullable, LetsNullStandForTheValue) {
  CheckSchemas({
      {R"({"type":"string","nullable":true})", {"\"x\"", "null"}, {"1"}},
      {R"({"type":"string","nullable":false})", {"\"x\""}, {"null"}},
      {R"({"type":["integer","string"],"nullable":true})", {"\"x\"", "1", "null"}, {"1.5"}},
      {R"({"enum":["a"],"nullable":true})", {"\"a\"", "null"}, {"\"b\""}},
      {R"({"const":"a","nullable":true})", {"\"a\"", "null"}, {"\"b\""}},
      {R"({"$ref":"#/$defs/a","nullable":true,"$defs":{"a":{"const":1}}})", {"1", "null"}, {"2"}},
      {R"({"anyOf":[{"const":1},{"const":2}],"nullable":true})", {"1", "2", "null"}, {"3"}},
      {R"({"allOf":[{"$ref":"#/$defs/a"}],"nullable":true,"$defs":{"a":{"const":1}}})",
       {"1", "null"},
       {"2"}},
      // Null must suit all parts.
      {R"({"allOf":[{"type":"string","nullable":true},{"type":"string","minLength":2}]})",
       {"\"ab\""},
       {"null", "\"a\""}},
      {R"({"allOf":[{"type":"string","nullable":true},{"minLength":2}]})",
       {"\"ab\"", "null"},
       {"\"a\""}},
      {R"({"allOf":[{"$ref":"#/$defs/a"},{"type":["object","null"]}],)"
       R"("$defs":{"a":{"type":"object","nullable":true,"properties":{"k":{"const":1}}}}})",
       {R"({"k":1})", "null"},
       {R"({"k":2})"}},
  });
  EXPECT_THAT(Refusal(Schema(R"({"nullable":"yes"})")), HasSubstr("#/nullable: must be true or"));
}

TEST(GrammarAnnotations, ChangeNothing) {
  CheckSchemas({
      {R"({"type":"integer","title":"t","description":"d","default":1,"example":1,"examples":[1],)"
       R"("deprecated":true,"readOnly":true,"writeOnly":false,"$comment":"c","x-order":{"type":3},)"
       R"("externalDocs":{"url":"u"},"xml":{"name":"n"},"contentMediaType":"m"})",
       {"1"},
       {"\"a\""}},
      {R"({"$ref":"#/$defs/a","description":"d","example":3,"x-a":1,"$defs":{"a":{"const":1}}})",
       {"1"},
       {"3"}},
      {R"({"enum":["a"],"x-labels":["A"]})", {"\"a\""}, {"\"A\""}},
      {R"({"oneOf":[{"const":1}],"discriminator":{"propertyName":"k"},"example":2})", {"1"}, {"2"}},
  });
}

}  // namespace
}  // namespace shoal::text::grammar
