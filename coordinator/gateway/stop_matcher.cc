#include "coordinator/gateway/stop_matcher.h"

// Plain search: the text held back is shorter than the longest stop string.

#include <algorithm>
#include <utility>

namespace shoal::gateway {

std::string StopMatcher::Push(std::string_view text) {
  if (matched_ || text.empty()) return "";
  if (stops_.empty()) return std::string(text);
  held_ += text;
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
  matched_ = match.first != std::string::npos;
  const size_t cut = !matched_ ? keep : includes_ ? match.second : match.first;
  std::string free = held_.substr(0, cut);
  held_.erase(0, matched_ ? held_.size() : cut);
  return free;
}

std::string StopMatcher::Finish() { return std::exchange(held_, ""); }

}  // namespace shoal::gateway
