#pragma once

// Percentiles, throughput and goodput from the times of answered requests. Pure.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "transport/base/clock.h"

namespace shoal::cli {

// One request. Times are points on one clock; those of what never came are 0.
struct RequestRecord {
  TimeNs due = 0;                 // When it should have been sent; in a closed loop, when sent.
  TimeNs sent = 0;                // When it was sent.
  TimeNs end = 0;                 // When the answer was complete.
  std::vector<TimeNs> events;     // When something to read arrived.
  int64_t completion_tokens = 0;  // As the server counts them.
  std::string failure;            // Empty: a complete answer.

  bool succeeded() const { return failure.empty() && !events.empty(); }
};

// What a user is promised. 0: no bound.
struct Objective {
  double first_token_ms = 0;
  double per_token_ms = 0;
};

// The p-th percentile of `values` as the smallest one that at least p percent do not exceed
// (nearest rank), so that it is a value that occurred. Precondition: not empty, 0 < p <= 100.
double Percentile(std::span<const double> sorted, double p);

// What each figure means, as --help shows it.
extern const char* const kServeFormulas;

// One JSON object with the fields that kServeFormulas lists. `concurrency`: of a closed loop, or 0.
nlohmann::ordered_json Summarize(std::span<const RequestRecord> records, const Objective& objective,
                                 int64_t concurrency);

// The same as a table for people.
std::string ToText(const nlohmann::ordered_json& summary);

}  // namespace shoal::cli
