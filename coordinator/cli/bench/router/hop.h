#pragma once

// What a router adds to a request: the same load, by way of the coordinator, of HAProxy, and of
// neither.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace shoal::cli {

struct HopOptions {
  std::string model;
  double requests_per_second = 1'000;
  double seconds = 10;  // Of each run.
  int64_t pairs = 3;    // Runs of each arm, in turns.
  int32_t groups = 2;
  int64_t door_clients = 64;  // Of the closed loop that measures what the door admits.
  int64_t seed = 1;
  bool haproxy = true;  // Whether there is one to measure beside.
};

// Each arm by its name: what stands between the clients and what answers them.
//   backend         HAProxy that answers at once
//   haproxy         HAProxy before that
//   coordinator     the coordinator before a leader that answers at once
//   groups          the coordinator before groups that compute
//   haproxy_groups  HAProxy before that coordinator
// Result: {requests_per_second, seconds, runs: [{arm, pair, calls, failed, p50_ms, p99_ms, max_ms,
// late_p99_ms, router_cpu_us}], door_admissions_per_second: [..]}. Latencies count from when a
// request was due to the end of its answer, of those that were answered whole. Errors: as Rig and
// Haproxy have them.
nlohmann::ordered_json MeasureHops(const HopOptions& options);

// Adds to that result what pairs of runs say: ratios {figure, of, to, p50, p99}, and the hops
// {arm, without, p50_ms, p99_ms}, each {median, lowest, highest} of the differences of p50 and of
// p99. A pair without both arms, or in which nothing was answered, is left out. Pure.
void CompareHops(nlohmann::ordered_json& result);

}  // namespace shoal::cli
