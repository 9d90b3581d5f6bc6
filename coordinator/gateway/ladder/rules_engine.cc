#include "coordinator/gateway/ladder/rules_engine.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "parallel/text/search/words.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

constexpr size_t kPhraseWordsMax = 64;

// The group that a placeholder means; none if there is no such group.
std::optional<size_t> FindGroup(const std::optional<text::SearchPattern>& pattern,
                                const std::string& name) {
  if (!pattern) return std::nullopt;
  size_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error == std::errc() && end == name.data() + name.size()) {
    return number <= pattern->group_count() ? std::optional(number) : std::nullopt;
  }
  return pattern->GroupOf(name);
}

bool Holds(const std::vector<std::string>& words, const std::vector<std::string>& phrase) {
  return std::search(words.begin(), words.end(), phrase.begin(), phrase.end()) != words.end();
}

}  // namespace

RulesEngine RulesEngine::ReadFile(const std::string& path) {
  return RulesEngine(config::YamlMap::ReadFile(path));
}

RulesEngine::RulesEngine(config::YamlMap file) {
  for (config::YamlMap& map : file.Maps("rules")) {
    if (rules_.size() == kRulesMax) {
      file.Fail("rules", Str("expected at most ", kRulesMax, " rules"));
    }
    Rule rule = ReadRule(map, rules_.size() + 1);
    const bool is_known =
        std::ranges::any_of(rules_, [&rule](const Rule& other) { return other.name == rule.name; });
    if (is_known) map.Fail("name", Str("there is another rule '", rule.name, "': rename one"));
    rules_.push_back(std::move(rule));
  }
  if (rules_.empty()) file.Fail("rules", "expected a list of rules, found none");
  file.Finish();
}

RulesEngine::Rule RulesEngine::ReadRule(config::YamlMap& map, size_t number) {
  Rule rule;
  rule.name = map.Text("name", Str(number));
  rule.all = ReadPhrases(map, "words");
  rule.any = ReadPhrases(map, "any");
  if (map.Has("pattern")) {
    if (!rule.all.empty() || !rule.any.empty()) {
      map.Fail("pattern", "a rule has a pattern, or words: make two rules of it");
    }
    try {
      rule.pattern.emplace(map.Text("pattern", ""));
    } catch (const Error& error) {  // Only here is its line known.
      map.Fail("pattern", error.what());
    }
  } else if (rule.all.empty() && rule.any.empty()) {
    map.Fail("name", "the rule needs what it answers to: words, any or pattern");
  }
  ReadAnswer(map, rule);
  map.Finish();
  return rule;
}

std::vector<RulesEngine::Phrase> RulesEngine::ReadPhrases(config::YamlMap& map,
                                                          std::string_view key) {
  std::vector<Phrase> phrases;
  for (const std::string& text : map.Texts(key)) {
    Phrase phrase = text::SplitWords(text, kPhraseWordsMax);
    if (phrase.empty()) map.Fail(key, Str("expected words, found '", text, "'"));
    phrases.push_back(std::move(phrase));
  }
  return phrases;
}

// "{{" and "}}" stand for one brace.
void RulesEngine::ReadAnswer(config::YamlMap& map, Rule& rule) {
  const std::string answer = map.Text("answer", "");
  if (answer.empty()) map.Fail("answer", "expected the text of the answer");
  if (answer.size() > kTextAnswerBytesMax / 2) {
    map.Fail("answer",
             Str("expected at most ", kTextAnswerBytesMax / 2, " bytes, found ", answer.size()));
  }
  rule.texts.emplace_back();
  for (size_t at = 0; at < answer.size(); ++at) {
    const char c = answer[at];
    const bool is_brace = c == '{' || c == '}';
    if (is_brace && at + 1 < answer.size() && answer[at + 1] == c) {
      ++at;
    } else if (c == '}') {
      map.Fail("answer", "a lone }: write }} for a brace");
    } else if (c == '{') {
      const size_t end = answer.find('}', at);
      const std::string name = answer.substr(at + 1, end == std::string::npos ? 0 : end - at - 1);
      const std::optional<size_t> group = FindGroup(rule.pattern, name);
      if (!group) {
        map.Fail("answer", Str("{", name,
                               "} is no group of the rule's pattern: expected {0} for "
                               "the match, {1}, {2} or {name}, or {{ for a brace"));
      }
      rule.groups.push_back(*group);
      rule.texts.emplace_back();
      at = end;
      continue;
    }
    rule.texts.back() += c;
  }
}

std::optional<std::vector<std::string>> RulesEngine::Match(const Rule& rule,
                                                           std::string_view question,
                                                           const std::vector<std::string>& words) {
  if (rule.pattern) return rule.pattern->Find(question);
  const auto holds = [&words](const Phrase& phrase) { return Holds(words, phrase); };
  const bool fits = std::ranges::all_of(rule.all, holds) &&
                    (rule.any.empty() || std::ranges::any_of(rule.any, holds));
  return fits ? std::optional(std::vector<std::string>()) : std::nullopt;
}

std::optional<TextAnswer> RulesEngine::Answer(std::string_view question) const {
  if (question.size() > kQuestionBytesMax) return std::nullopt;
  const std::vector<std::string> words = text::SplitWords(question, kQuestionWordsMax);
  for (const Rule& rule : rules_) {
    const auto match = Match(rule, question, words);
    if (!match) continue;
    std::string text = rule.texts.front();
    for (size_t i = 0; i < rule.groups.size(); ++i) {
      text += (*match)[rule.groups[i]] + rule.texts[i + 1];
    }
    // Its placeholders may stand for much of the question, many times.
    if (text.size() > kTextAnswerBytesMax) continue;
    return TextAnswer{std::move(text), "rule " + rule.name};
  }
  return std::nullopt;
}

}  // namespace shoal::gateway
