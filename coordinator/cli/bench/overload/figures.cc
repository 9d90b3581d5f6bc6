#include "coordinator/cli/bench/overload/figures.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "coordinator/cli/bench/load/latency.h"

namespace shoal::cli {

const char* const kOverloadFormulas =
    R"(A call is one request of one client, an attempt one HTTP request for it. The load is open:
calls come when they are due, however busy the server is, and all times count from when a call (a
repetition) was due and not from when it was sent. Clients hang up at their deadline: 2 s for vip
(class critical_plus) and normal (critical), 4 s for batch (sheddable). Vip asks for a fifth of the
load, and of the capacity at most; of the rest, three fifths are normal's. Lengths have heavy tails
(bounded Pareto distributions).

Shapes, each with its highest rate at FACTOR times the capacity:
  steady         one rate
  step           1, then 6 times as much
  surge          1, then 5 times as much, then 1
  eighty_twenty  80 % of the calls in 20 % of the time
  pulse          1, then 15 times as much: 83 % of an event in its first quarter
  angry          steady; 15 % of the normal and batch clients ask again at once, without end
  storm          as angry, then half of the capacity
Arms:
  protected      all protections of the server; clients wait as they are told, at most 3 attempts,
                 and repeat a tenth of their calls at most
  control        the same clients; --protections none
  no_edge_limit, no_admission, no_routing, no_degradation
                 protected without this one
  no_client_retry  protected, but all clients ask again at once, without end

JSON (--json): an object with
  capacity_per_second   whole answers per second of a closed loop of twice as many clients as slots
  capacity_after_per_second  the same at the end: on a busy machine, how far to trust the rest
  unloaded_ttft_ms      {count, p50, p99} of one client alone, closed loop
  peak_per_second       the largest of that capacity and the goodput of all steady runs
  seconds, storm_seconds, calm_seconds, groups, sequences_max, seed, work_tokens_mean
  runs                  one object for each run:
    arm, shape, factor, seconds, calls
    offered_per_second  calls that were due in the shape's highest piece / its length
    goodput_per_second  whole answers of the model asked for that were complete before their
                        deadline and in the piece, without its first fifth (a second at most) /
                        that length
    goodput_share       of the peak; of what was offered, if that was less
    classes             by tenant: {class, calls, success, ttft_ms: {count, p50, p99}, ttft_ratio}
                        of calls due in the piece; success: the good ones' share; ttft_ratio: p99
                        against the unloaded p99
    rejection_ms        {count, p50, p99}: from an attempt's being due to its 429 or 503
    attempts_per_call, patient_attempts_per_call (without angry clients), admitted_per_call
                        (attempts that the server began to answer)
    outcomes            attempts by what became of them: whole, client_timeout, a code of the
                        server, or an untyped end
    untyped             attempts that ended without a whole answer, a code, or their client's
                        leaving
    retries_withheld    refused attempts that clients did not repeat
    degraded            calls whose answer was another's than the model's
    lateness_ms         {count, p50, p99} of this program: from a call's being due to its being sent
    recovery_seconds    storm only: after the storm, until at least 95 % of the calls of each second
                        are good; null: not within the calm
  layers                one object for each storm: {arm, caught: what each layer caught, and what
                        clients gave up on; goodput_share, vip_success, recovery_seconds, holds:
                        without that layer vip fares nearer to protected than to control; null for
                        these two and where one of them was not run}
  targets               [{target, wanted, reached, met}]; null where nothing was measured
)";

namespace {

using Json = nlohmann::ordered_json;

constexpr double kRecovered = 0.95;

double InMs(TimeNs ns) { return static_cast<double>(ns) / kMillisecondNs; }

double Ratio(int64_t part, size_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

bool IsUntyped(const std::string& outcome) {
  return outcome == kConnectFailed || outcome == kBrokeOff || outcome == kIncomplete ||
         outcome == kUntyped;
}

Json DescribeTenant(TrafficTenant tenant, const Window& window, const LoadRecords& records) {
  int64_t calls = 0;
  int64_t good = 0;
  std::vector<double> first;
  for (const CallRecord& call : records.calls) {
    if (call.tenant != tenant || !window.Contains(call.due)) continue;
    ++calls;
    if (call.good()) ++good;
    if (call.good() && call.first_token > 0) {
      first.push_back(InMs(call.first_token - call.due));
    }
  }
  return {{"class", kTenantTraits[static_cast<size_t>(tenant)].service_class},
          {"calls", calls},
          {"success", calls == 0 ? Json(nullptr) : Json(Ratio(good, static_cast<size_t>(calls)))},
          {"ttft_ms", Percentiles(std::move(first))}};
}

void AddAttempts(const LoadRecords& records, Json& run) {
  int64_t attempts = 0;
  int64_t admitted = 0;
  int64_t degraded = 0;
  int64_t patient_attempts = 0;
  size_t patient = 0;
  for (const CallRecord& call : records.calls) {
    attempts += call.attempts;
    admitted += call.admitted;
    if (call.degraded) ++degraded;
    if (call.angry) continue;
    patient_attempts += call.attempts;
    ++patient;
  }
  run["attempts_per_call"] = Ratio(attempts, records.calls.size());
  run["patient_attempts_per_call"] = Ratio(patient_attempts, patient);
  run["admitted_per_call"] = Ratio(admitted, records.calls.size());
  run["outcomes"] = Json::object();
  int64_t untyped = 0;
  for (const auto& [outcome, count] : records.attempts) {
    run["outcomes"][outcome] = count;
    if (IsUntyped(outcome)) untyped += count;
  }
  run["untyped"] = untyped;
  run["retries_withheld"] = records.retries_withheld;
  run["degraded"] = degraded;
}

}  // namespace

Window HighestPiece(std::span<const RatePiece> pieces) {
  Window window;
  double begin = 0;
  double highest = -1;
  for (const RatePiece& piece : pieces) {
    const double end = begin + piece.seconds;
    if (piece.requests_per_second >= highest) {
      highest = piece.requests_per_second;
      window.begin = static_cast<TimeNs>(begin * static_cast<double>(kSecondNs));
      window.end = static_cast<TimeNs>(end * static_cast<double>(kSecondNs));
    }
    begin = end;
  }
  return window;
}

double Goodput(std::span<const CallRecord> calls, const Window& window) {
  Window full = window;
  full.begin += std::min((window.end - window.begin) / 5, kSecondNs);
  const auto good = std::ranges::count_if(
      calls, [&](const CallRecord& call) { return call.good() && full.Contains(call.end); });
  return full.seconds() > 0 ? static_cast<double>(good) / full.seconds() : 0;
}

std::optional<double> RecoverySeconds(std::span<const CallRecord> calls, TimeNs from, TimeNs to) {
  double recovered = 0;
  for (TimeNs begin = from; begin < to; begin += kSecondNs) {
    const Window second = {begin, std::min(begin + kSecondNs, to)};
    size_t due = 0;
    int64_t good = 0;
    for (const CallRecord& call : calls) {
      if (!second.Contains(call.due)) continue;
      ++due;
      if (call.good()) ++good;
    }
    if (due == 0 || Ratio(good, due) >= kRecovered) continue;
    if (second.end >= to) return std::nullopt;
    recovered = static_cast<double>(second.end - from) / kSecondNs;
  }
  return recovered;
}

Json Percentiles(std::vector<double> values) {
  if (values.empty()) return {{"count", 0}, {"p50", nullptr}, {"p99", nullptr}};
  std::ranges::sort(values);
  return {
      {"count", values.size()}, {"p50", Percentile(values, 50)}, {"p99", Percentile(values, 99)}};
}

Json DescribeRun(const RunName& name, std::span<const RatePiece> pieces,
                 const LoadRecords& records) {
  const Window window = HighestPiece(pieces);
  double seconds = 0;
  for (const RatePiece& piece : pieces) seconds += piece.seconds;
  const auto offered = std::ranges::count_if(
      records.calls, [&](const CallRecord& call) { return window.Contains(call.due); });
  Json run = {{"arm", name.arm},
              {"shape", ToText(name.shape)},
              {"factor", name.factor},
              {"seconds", seconds},
              {"calls", records.calls.size()},
              {"offered_per_second", static_cast<double>(offered) / window.seconds()},
              {"goodput_per_second", Goodput(records.calls, window)}};
  for (size_t i = 0; i < kTrafficTenants; ++i) {
    run["classes"][std::string(kTenantTraits[i].name)] =
        DescribeTenant(static_cast<TrafficTenant>(i), window, records);
  }
  run["rejection_ms"] = Percentiles(records.rejections_ms);
  AddAttempts(records, run);
  run["lateness_ms"] = Percentiles(records.lateness_ms);
  run["recovery_seconds"] = nullptr;
  if (name.shape == LoadShape::kStorm) {
    const auto end = static_cast<TimeNs>(seconds * static_cast<double>(kSecondNs));
    const std::optional<double> recovery = RecoverySeconds(records.calls, window.end, end);
    if (recovery) run["recovery_seconds"] = *recovery;
  }
  return run;
}

}  // namespace shoal::cli
