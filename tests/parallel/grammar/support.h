#pragma once

// What the grammar tests share: a small vocabulary with awkward tokens, walks through masks, and a
// validator that knows nothing of the compiler.

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "parallel/text/grammar/grammar.h"
#include "parallel/text/grammar/matcher.h"
#include "tests/support/model/random_weights.h"

namespace shoal::text::grammar {

using Json = nlohmann::ordered_json;

// All bytes but 0xF1, and tokens that cross every border JSON has: `{"`, `":"`, `"}]`, halves of
// characters, runs of white space. The last but one is the end token, its neighbours write nothing.
std::shared_ptr<const GrammarVocabulary> TinyVocabulary();

std::shared_ptr<MaskedGrammar> Masked(const GrammarSource& source,
                                      std::shared_ptr<const GrammarVocabulary> vocabulary);
std::shared_ptr<MaskedGrammar> Masked(const GrammarSource& source);

// Whether the grammar holds the bytes, taken one by one, and may end after them.
bool Matches(const GrammarSource& source, const std::string& text);

// What Compile complains of; empty if it does not.
std::string Refusal(const GrammarSource& source);

GrammarSource Schema(const std::string& text);
GrammarSource Regex(const std::string& text);

// Texts that a schema's grammar must hold, and others that it must not.
struct SchemaCase {
  std::string schema;
  std::vector<std::string> matches;
  std::vector<std::string> others;
};
void CheckSchemas(const std::vector<SchemaCase>& cases);

// Writes texts as tokens of several bytes wherever some fit: the longest first.
class GreedyEncoder {
 public:
  explicit GreedyEncoder(const GrammarVocabulary& vocabulary);

  std::vector<int32_t> Encode(const std::string& text) const;

 private:
  std::map<std::string, int32_t> ids_;
  size_t longest_ = 0;
};

// Tokens drawn at random from the masks until the end token, or nothing if that did not come within
// `tokens_max`. Each token is checked to be accepted.
std::optional<std::string> RandomAnswer(const std::shared_ptr<MaskedGrammar>& grammar,
                                        test::RandomBits& random, int tokens_max);

// Whether `value` is valid under `schema`, by the specification's words. Of `format` it knows
// nothing. `root`: where references begin.
bool IsValid(const Json& schema, const Json& value, const Json& root);

// A schema of random keywords, with what must hold of them (minItems <= maxItems, ...).
Json RandomSchema(test::RandomBits& random, int depth);

}  // namespace shoal::text::grammar
