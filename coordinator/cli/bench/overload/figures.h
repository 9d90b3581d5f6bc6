#pragma once

// What an overload benchmark says of a run: goodput, success and latencies by class, refusals,
// recovery. Pure.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>

#include "coordinator/cli/bench/overload/clients.h"
#include "coordinator/cli/bench/overload/traffic.h"
#include "transport/base/clock.h"

namespace shoal::cli {

// What each figure means, as --help shows it.
extern const char* const kOverloadFormulas;

// Which part of a run is looked at; points after its start.
struct Window {
  TimeNs begin = 0;
  TimeNs end = 0;

  bool Contains(TimeNs at) const { return begin <= at && at < end; }
  double seconds() const { return static_cast<double>(end - begin) / kSecondNs; }
};

// The piece with the highest rate, the last of equals.
Window HighestPiece(std::span<const RatePiece> pieces);

// Good answers per second that were complete within the window, without its first part: a fifth of
// it, and a second at most, in which the server's slots and queues fill. What is still to come from
// the queue at the window's end does not count.
double Goodput(std::span<const CallRecord> calls, const Window& window);

// Seconds after `from` from which on at least 95 % of the calls that are due in each second, up to
// `to`, are good. Nothing: not even in the last second.
std::optional<double> RecoverySeconds(std::span<const CallRecord> calls, TimeNs from, TimeNs to);

// {count, p50, p99} of values in any order; null percentiles of none.
nlohmann::ordered_json Percentiles(std::vector<double> values);

struct RunName {
  std::string arm;
  LoadShape shape = LoadShape::kSteady;
  double factor = 1;
};

// One object of the JSON's `runs`, without what needs other runs.
nlohmann::ordered_json DescribeRun(const RunName& name, std::span<const RatePiece> pieces,
                                   const LoadRecords& records);

}  // namespace shoal::cli
