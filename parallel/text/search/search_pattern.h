#pragma once

// A regular expression that is looked for in a text, in PCRE2's syntax.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::text {

// Immutable. Threading: one thread at a time.
class SearchPattern {
 public:
  // Letters compare without regard to case; classes such as \w are Unicode's. Errors:
  // kInvalidArgument with PCRE2's complaint and its place.
  explicit SearchPattern(const std::string& pattern);
  ~SearchPattern();
  SearchPattern(SearchPattern&&) noexcept;
  SearchPattern& operator=(SearchPattern&&) noexcept;

  // The first match: all of it, then each group; one that took no part is empty. None if there is
  // no match, also of a text that is not UTF-8, or one that would take too many steps (100,000).
  std::optional<std::vector<std::string>> Find(std::string_view text) const;

  size_t group_count() const;
  // The number of the group (?<name>...); none if there is none.
  std::optional<size_t> GroupOf(const std::string& name) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace shoal::text
