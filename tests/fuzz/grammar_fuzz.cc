// Schemas, regular expressions and choices: the first byte of an input chooses which the rest is.
// What is accepted must let some tokens follow until it ends, and JSON must come out of schemas.

#include <nlohmann/json.hpp>
#include <string>

#include "parallel/text/grammar/grammar.h"
#include "parallel/text/grammar/matcher.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/model/random_weights.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

using text::grammar::GrammarMatcher;
using text::grammar::GrammarVocabulary;

// Token i is the byte i; the last one is the end.
std::shared_ptr<const GrammarVocabulary> Bytes() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back();
  return std::make_shared<const GrammarVocabulary>(std::move(tokens), std::vector<int32_t>{256});
}

GrammarKind KindOf(uint8_t byte) {
  switch (byte) {
    case 's':
      return GrammarKind::kJsonSchema;
    case 'c':
      return GrammarKind::kChoice;
    default:
      return GrammarKind::kRegex;
  }
}

void Run(const GrammarSource& source) {
  static const std::shared_ptr<const GrammarVocabulary> kVocabulary = Bytes();
  auto expression = text::grammar::CompileGrammar(source, kVocabulary->single_bytes());
  auto grammar = std::make_shared<text::grammar::MaskedGrammar>(std::move(expression), kVocabulary);
  GrammarMatcher matcher(grammar);
  RandomBits random(source.text.size());
  std::string answer;
  for (int i = 0; i < 200; ++i) {
    const auto mask = matcher.Allowed();
    auto token = static_cast<int32_t>(mask->Has(256) ? 256 : random.Below(256));
    for (int tries = 0; !mask->Has(token); ++tries) {
      SHOAL_CHECK(tries < 257, "nothing may follow ", answer);
      token = (token + 1) % 257;
    }
    SHOAL_CHECK(matcher.Accept(token), "token ", token, " after ", answer);
    if (matcher.ended()) break;
    answer += static_cast<char>(token);
  }
  SHOAL_CHECK(
      !matcher.ended() || source.kind != GrammarKind::kJsonSchema || nlohmann::json::accept(answer),
      answer);
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {
      R"(s{"type":"object","properties":{"a":{"type":"integer","minimum":-3,"maximum":12},)"
      R"("b":{"type":"array","prefixItems":[{"enum":["x",1]}],"items":{"$ref":"#/$defs/c"},)"
      R"("minItems":1,"maxItems":3}},"required":["a"],"additionalProperties":{"type":"null"},)"
      R"("$defs":{"c":{"anyOf":[{"type":"number"},{"type":"array","items":)"
      R"({"$ref":"#/$defs/c"}}]}}})",
      R"(s{"allOf":[{"properties":{"a":{"type":"string","minLength":1}}},{"required":["a"]}],)"
      R"("type":"object","oneOf":[{"properties":{"b":{"format":"date"}}},{"properties":)"
      R"({"b":{"type":"string","pattern":"^x+$"}}}]})",
      R"(s{"type":"object","properties":{"n":{"type":"number","multipleOf":0.25,"minimum":-0.5},)"
      R"("u":{"type":"array","uniqueItems":true,"items":{"enum":["x",1,null]},"maxItems":2},)"
      R"("s":{"format":"uri","pattern":"^a+:","minLength":2,"maxLength":30}},"minProperties":1,)"
      R"("patternProperties":{"^k":{"type":"integer","exclusiveMaximum":7}},"maxProperties":3,)"
      R"("propertyNames":{"pattern":"^[a-z]*$","maxLength":4},"additionalProperties":)"
      R"({"$ref":"#/$defs/a%20b","nullable":true},"$defs":{"a b":{"format":"hostname"}}})",
      R"(r(a|[^b-d]{2,5})*?\d\w\s(?:\u00e9|.)+(?<n>x|))",
      R"(c["yes","no","\u00e9"])",
  };
}

}  // namespace shoal::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    shoal::test::Run({shoal::test::KindOf(data[0]), text});
  } catch (const shoal::Error& error) {
    // A refusal is the expected outcome; an error of another kind is a finding.
    if (error.code() != shoal::ErrorCode::kInvalidArgument) throw;
  }
  return 0;
}
