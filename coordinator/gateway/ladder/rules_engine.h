#pragma once

// Answers by an ordered list of rules: the first one that fits the question answers it.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/ladder/text_answer.h"
#include "parallel/text/search/search_pattern.h"
#include "transport/config/yaml_map.h"

namespace shoal::gateway {

// Threading: owned by the event loop.
class RulesEngine {
 public:
  static constexpr size_t kRulesMax = 1'000;

  // Errors: kInvalidArgument, naming file, line and key.
  static RulesEngine ReadFile(const std::string& path);
  explicit RulesEngine(config::YamlMap file);

  std::optional<TextAnswer> Answer(std::string_view question) const;
  size_t size() const { return rules_.size(); }

 private:
  using Phrase = std::vector<std::string>;  // Words that follow each other.

  struct Rule {
    std::string name;
    std::optional<text::SearchPattern> pattern;
    std::vector<Phrase> all;  // Without a pattern: each of them must be there,
    std::vector<Phrase> any;  // and one of these, if there are some.
    // Texts and, between them, the groups of the match that stand there.
    std::vector<std::string> texts;
    std::vector<size_t> groups;
  };

  static Rule ReadRule(config::YamlMap& map, size_t number);
  static void ReadAnswer(config::YamlMap& map, Rule& rule);
  static std::vector<Phrase> ReadPhrases(config::YamlMap& map, std::string_view key);
  static std::optional<std::vector<std::string>> Match(const Rule& rule, std::string_view question,
                                                       const std::vector<std::string>& words);

  std::vector<Rule> rules_;
};

}  // namespace shoal::gateway
