// GrammarState: what may follow depends on the tokens alone, also after some were taken back.

#include "worker/engine/choice/grammar_states.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "transport/base/error.h"

namespace shoal::engine {
namespace {

using text::grammar::GrammarVocabulary;

constexpr int32_t kEnd = 256;

// Tokens are bytes, and an end.
std::shared_ptr<const GrammarVocabulary> Bytes() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back();
  return std::make_shared<const GrammarVocabulary>(std::move(tokens), std::vector{kEnd});
}

std::vector<int32_t> Tokens(const std::string& text) { return {text.begin(), text.end()}; }

// The bytes that may follow, and "$" for the end.
std::string Next(GrammarState& state, const std::string& generated) {
  const auto words = state.Allowed(Tokens(generated));
  std::string allowed;
  for (int32_t token = 0; token <= kEnd; ++token) {
    const bool may = (words[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0;
    if (may) allowed += token == kEnd ? '$' : static_cast<char>(token);
  }
  return allowed;
}

TEST(GrammarState, FollowsTokensForwardAndBack) {
  GrammarCache cache(Bytes);
  GrammarState state(cache.Get({GrammarKind::kRegex, "a(b|c)d{60,}"}));
  EXPECT_EQ(Next(state, ""), "a");
  EXPECT_EQ(Next(state, "a"), "bc");
  EXPECT_EQ(Next(state, "ab"), "d");
  EXPECT_EQ(Next(state, "a"), "bc");
  EXPECT_EQ(Next(state, "acd"), "d");
  const std::string end = "ac" + std::string(60, 'd');
  EXPECT_EQ(Next(state, end), "d$");
  // Further back than any draft reaches.
  EXPECT_EQ(Next(state, "a"), "bc");
  EXPECT_EQ(Next(state, ""), "a");
  EXPECT_EQ(Next(state, end), "d$");
}

TEST(GrammarState, LeavesOnlyTheEndBehindTokensThatBreakIt) {
  GrammarCache cache(Bytes);
  GrammarState state(cache.Get({GrammarKind::kRegex, "ab*"}));
  EXPECT_EQ(Next(state, "ax"), "$");
  EXPECT_EQ(Next(state, "axb"), "$");
  EXPECT_EQ(Next(state, "ab"), "b$");
}

TEST(GrammarCache, CompilesEqualGrammarsOnceAndMakesTheVocabularyWhenNeeded) {
  int made = 0;
  GrammarCache cache([&] {
    ++made;
    return Bytes();
  });
  EXPECT_EQ(made, 0);
  const auto first = cache.Get({GrammarKind::kRegex, "a"});
  EXPECT_EQ(first, cache.Get({GrammarKind::kRegex, "a"}));
  EXPECT_NE(first, cache.Get({GrammarKind::kChoice, R"(["a"])"}));
  EXPECT_EQ(made, 1);
  EXPECT_THROW(cache.Get({GrammarKind::kRegex, "(a"}), Error);
}

TEST(GrammarCache, KeepsWhatIsInUseAndLetsOldOnesGo) {
  GrammarCache cache(Bytes);
  const auto used = cache.Get({GrammarKind::kRegex, "used"});
  std::weak_ptr<text::grammar::MaskedGrammar> unused = cache.Get({GrammarKind::kRegex, "unused"});
  for (int i = 0; i < 100; ++i) cache.Get({GrammarKind::kRegex, std::to_string(i)});
  EXPECT_TRUE(unused.expired());
  EXPECT_EQ(used, cache.Get({GrammarKind::kRegex, "used"}));
}

}  // namespace
}  // namespace shoal::engine
