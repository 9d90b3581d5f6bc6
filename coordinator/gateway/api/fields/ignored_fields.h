#pragma once

// What is said about fields that nobody here knows: to the caller, and once in a while to whoever
// reads the log. Pure.

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/json/json_reader.h"
#include "transport/base/clock.h"

namespace shoal::gateway {

constexpr size_t kIgnoredMax = 32;
constexpr size_t kIgnoredBytesMax = 100;

// Adds the name of such a field, once; at most kIgnoredMax names, cut at kIgnoredBytesMax, and then
// "...".
void NoteIgnored(std::string path, std::vector<std::string>& ignored);
// Those that `reader` was never asked for. `prefix`: of the names, such as "messages.".
void NoteUnread(const JsonReader& reader, std::string_view prefix,
                std::vector<std::string>& ignored);

// For the header X-Shoal-Ignored: those that are safe there, and not too many.
std::string JoinNames(const std::vector<std::string>& names);

// For the answer's `warnings`. Names the nearest of the fields that there are.
std::vector<std::string> WarningsAbout(const std::vector<std::string>& ignored);

// Errors: ApiError, code unknown_parameter, if any field was ignored.
void RefuseIgnored(const std::vector<std::string>& ignored);

// Gathers the names of many requests. Threading: owned by the event loop.
class IgnoredLog {
 public:
  static constexpr TimeNs kPeriodNs = 60 * kSecondNs;

  // Result: a line for the log, at most one in each period; else empty.
  std::string Note(const std::vector<std::string>& names, TimeNs now);
  uint64_t total() const { return total_; }

 private:
  static constexpr size_t kNamesMax = 32;

  std::set<std::string> names_;  // Not yet told.
  uint64_t requests_ = 0;        // That they came with.
  uint64_t total_ = 0;           // Fields, ever.
  bool told_ = false;
  TimeNs told_at_ = 0;
};

}  // namespace shoal::gateway
