#pragma once

// When the requests of a benchmark are due, and how long they are. Pure but for ReadTrace's file.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/clock.h"

namespace shoal::cli {

struct PlannedRequest {
  TimeNs due = 0;  // After the start.
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;

  bool operator==(const PlannedRequest&) const = default;
};

// `count` requests of one shape whose gaps are exponential with the mean 1 / requests_per_second,
// the first after one gap: a Poisson process. The same seed gives the same arrivals everywhere.
std::vector<PlannedRequest> PoissonArrivals(int64_t count, double requests_per_second,
                                            const PlannedRequest& shape, uint64_t seed);

// Lines `seconds prompt_tokens output_tokens`, by time; empty ones and those from # on are skipped.
// Errors: kInvalidArgument, naming `name` and line, for another form, a time before the one above,
// tokens below 1, or no request at all.
std::vector<PlannedRequest> ParseTrace(std::string_view text, const std::string& name);
std::vector<PlannedRequest> ReadTrace(const std::string& path);

}  // namespace shoal::cli
