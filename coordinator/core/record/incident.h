#pragma once

// What happened to a region in a stretch of time, told from its records alone.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/record/cause.h"
#include "coordinator/core/record/record.h"

namespace shoal::core {

// Something that was counted or measured, and what by.
struct Tally {
  std::string name{};
  double value = 0;
  std::string source{};  // "records 12 to 340".
};

struct TimeLineEntry {
  int64_t unix_ms = 0;
  RecordKind kind = RecordKind::kGroupLost;
  std::string what{};
  std::vector<RecordFigure> figures{};
  uint64_t record = 0;  // Its number.
};

struct CauseShare {
  Cause cause = Cause::kUnknown;
  int64_t count = 0;
  double share = 0;       // Of all that is charged to somebody else than the request itself.
  std::string because{};  // The evidence that was there most often.
  std::string source{};
};

struct IncidentReport {
  int64_t from_unix_ms = 0;  // Of what is told: less than was asked for, if less is remembered.
  int64_t until_unix_ms = 0;
  bool complete = true;  // All of the time that was asked for is remembered.
  uint64_t forgotten = 0;
  std::vector<TimeLineEntry> time_line{};  // At most kTimeLineMax, the latest.
  int64_t time_line_left_out = 0;
  std::vector<Tally> outcomes{};  // admitted, finished, rejected, ...
  // Of what the model refused or failed, by reason, and something else on the ladder answered: it
  // is in none of those below.
  std::vector<Tally> by_rung{};
  std::vector<Tally> by_reason{};  // Of what was rejected; the most frequent first, all three.
  std::vector<Tally> by_class{};
  std::vector<Tally> by_tenant{};    // At most kTenantsMax.
  std::vector<Tally> worst_waits{};  // By request, in ms until the first token; at most kWaitsMax.
  std::vector<CauseShare> causes{};  // Of what was rejected, failed or expired, and not served.
  std::vector<std::string> advice{};

  static constexpr size_t kTimeLineMax = 200;
  static constexpr size_t kTenantsMax = 10;
  static constexpr size_t kWaitsMax = 5;
};

// `page`: all that is remembered of the last `since_ms`; 0: of all time.
IncidentReport MakeIncidentReport(const RecordPage& page, int64_t since_ms);

}  // namespace shoal::core
