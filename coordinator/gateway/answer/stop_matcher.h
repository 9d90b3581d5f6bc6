#pragma once

// Finds stop strings in text that arrives in pieces.

#include <string>
#include <string_view>
#include <vector>

namespace shoal::gateway {

// The joined results of Push, PushHidden and Finish are the shown text before the first match,
// whatever the pieces, and with `includes` the match itself. Of two matches the one that is
// complete first counts; of those completed by the same piece, the one that begins first.
class StopMatcher {
 public:
  // No string may be empty.
  explicit StopMatcher(std::vector<std::string> stops, bool includes = false)
      : stops_(std::move(stops)), includes_(includes) {}

  // The text that no stop string can reach any more. After a match: nothing.
  std::string Push(std::string_view text);
  // The same of text that is matched where it stands and never shown: a special token's.
  std::string PushHidden(std::string_view text);
  // What was held back.
  std::string Finish();

  // Of the last call's result: the hidden texts that are free with it, and the byte of it that each
  // stands before.
  struct Hidden {
    size_t at = 0;
    std::string text;
  };
  const std::vector<Hidden>& hidden() const { return hidden_; }

  bool matched() const { return matched_; }

 private:
  static constexpr char kHidden = 0;
  static constexpr char kShown = 1;
  static constexpr char kHiddenBegin = 2;  // Of one text's first byte.

  std::string Release(size_t count);
  std::string Search();

  const std::vector<std::string> stops_;
  const bool includes_;
  std::string held_;
  std::string held_shown_;  // For each byte of held_: kShown, kHidden, or kHiddenBegin.
  std::vector<Hidden> hidden_;
  bool matched_ = false;
};

}  // namespace shoal::gateway
