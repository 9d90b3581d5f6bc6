#include "coordinator/gateway/answer/stop_matcher.h"

// Plain search: the text held back is shorter than the longest stop string.

#include <algorithm>

namespace shoal::gateway {

std::string StopMatcher::Push(std::string_view text) {
  hidden_.clear();
  if (matched_ || text.empty()) return "";
  if (stops_.empty()) return std::string(text);
  held_ += text;
  held_shown_.append(text.size(), kShown);
  return Search();
}

std::string StopMatcher::PushHidden(std::string_view text) {
  hidden_.clear();
  if (matched_ || text.empty()) return "";
  if (stops_.empty()) {
    hidden_.push_back({0, std::string(text)});
    return "";
  }
  held_ += text;
  held_shown_ += kHiddenBegin;
  held_shown_.append(text.size() - 1, kHidden);
  return Search();
}

std::string StopMatcher::Search() {
  std::pair match(std::string::npos, std::string::npos);  // Where it begins and ends.
  size_t keep = held_.size();  // Where a stop string may yet be beginning.
  for (const std::string& stop : stops_) {
    const size_t found = held_.find(stop);
    if (found != std::string::npos && std::pair(found, found + stop.size()) < match) {
      match = {found, found + stop.size()};
    }
    size_t begin = held_.size() - std::min(held_.size(), stop.size() - 1);
    while (begin < keep &&
           !std::string_view(stop).starts_with(std::string_view(held_).substr(begin))) {
      ++begin;
    }
    keep = std::min(keep, begin);
  }
  // A hidden text is free as a whole.
  while (keep < held_.size() && held_shown_[keep] == kHidden) --keep;
  matched_ = match.first != std::string::npos;
  std::string free = Release(matched_ ? match.first : keep);
  if (!matched_) return free;
  // What ended the answer is shown whole, also where it is a special token's text.
  if (includes_) free += held_.substr(0, match.second - match.first);
  held_.clear();
  held_shown_.clear();
  return free;
}

// The shown part of the first `count` bytes, which are held no more.
std::string StopMatcher::Release(size_t count) {
  std::string shown;
  for (size_t i = 0; i < count; ++i) {
    if (held_shown_[i] == kShown) {
      shown += held_[i];
      continue;
    }
    if (held_shown_[i] == kHiddenBegin) hidden_.push_back({shown.size(), ""});
    hidden_.back().text += held_[i];
  }
  held_.erase(0, count);
  held_shown_.erase(0, count);
  return shown;
}

std::string StopMatcher::Finish() {
  hidden_.clear();
  return Release(held_.size());
}

}  // namespace shoal::gateway
