#pragma once

// What became of a request, told from its records alone.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/core/record/record.h"

namespace shoal::core {

enum class Outcome : uint8_t {
  kUnderWay,  // No record says that it has ended.
  kFinished,
  kRefused,
  kFailed,
  kExpired,
  kCancelled,
};
// "under_way", "finished", "refused", "failed", "expired", "cancelled".
std::string_view ToString(Outcome outcome);

struct StoryLine {
  int64_t at_ms = 0;  // From the story's first record on.
  RecordKind kind = RecordKind::kAdmitted;
  std::string what{};  // For people, one line, without the figures.
  std::vector<RecordFigure> figures{};
};

// One try: a stream from its admission to its end, or one refusal.
struct Story {
  std::string request{};
  StreamId stream{};  // Zero: it was refused.
  std::string tenant{};
  std::optional<ServiceClass> service_class{};
  int64_t began_unix_ms = 0;
  Outcome outcome = Outcome::kUnderWay;
  std::optional<BusyReason> reason{};  // Why it was refused, or failed.
  bool degraded = false;
  std::vector<StoryLine> lines{};
  std::vector<std::string> advice{};  // What its caller can do now.
};

// In the order in which they began. `records`: of one request, the latest last; a name that several
// requests had, or one with several answers, makes several stories.
std::vector<Story> TellStories(std::span<const Record> records);

}  // namespace shoal::core
