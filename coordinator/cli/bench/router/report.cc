#include "coordinator/cli/bench/router/report.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

namespace shoal::cli {

const char* const kRouterFormulas =
    R"(A decision is one call of the router: which of so many groups takes a request, whose streams
they have already. An admission is a request's way through the deciding code, from its being
submitted to the word to a group's leader. Neither has sockets or threads; both are timed one by
one.

A hop is what a router adds to a request of 8 tokens that asks for one: the load is open (a Poisson
process), and latencies count from when a request was due to the end of its answer, however late
its client was. Arms, in turns, with the same arrivals in each pair of runs:
  coordinator     clients - coordinator - a leader that answers at once, by the ranks' own protocol
  backend         clients - HAProxy that answers at once: what remains without any router
  haproxy         clients - HAProxy - that backend
  groups          clients - coordinator - groups of a tiny model that compute
  haproxy_groups  clients - HAProxy - that coordinator - those groups
The coordinator's hop is coordinator without backend: it reads JSON, checks, predicts, routes,
speaks another protocol behind, and streams events. HAProxy's is haproxy without backend, or
haproxy_groups without groups: it passes bytes on. Differences of percentiles are not percentiles
of differences. Groups that cannot do so many requests a second make their two arms say nothing of
a hop: lower --rate until their p50 is that of --rate 1.

JSON (--json): {haproxy, core: [...], hop: {...}, targets: [{target, wanted, reached, met}]}; core
has an object for each number of groups: {groups, streams, prompt_tokens, decisions: [{policy,
count, p50_us, p99_us, max_us}], admissions: {count, p50_us, p99_us, max_us, per_second,
with_ends_per_second}}; hop: {requests_per_second, seconds, runs: [{arm, pair, calls, failed,
outcomes, p50_ms, p99_ms, max_ms, late_p99_ms (of the clients), router_cpu_us (of the arm's first
program, for each request)}], door_admissions_per_second (whole answers of a closed loop before the
leader that answers at once, each pair), ratios and hops_ms: each {p50, p99}: {median, lowest,
highest} over the pairs}.
)";

namespace {

using Json = nlohmann::ordered_json;

// A figure, or a dash if there is none.
std::string Column(const Json& value, int width, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << std::setw(width);
  value.is_number() ? out << value.get<double>() : out << "-";
  return out.str();
}

std::string Spread(const Json& value) {
  if (value.is_null()) return "-";
  return Column(value["median"], 0, 2) + " (" + Column(value["lowest"], 0, 2) + " to " +
         Column(value["highest"], 0, 2) + ")";
}

Json WorstDecision(const Json& result) {
  Json worst = nullptr;
  for (const Json& core : result["core"]) {
    for (const Json& one : core["decisions"]) {
      if (worst.is_null() || one["p99_us"] > worst) worst = one["p99_us"];
    }
  }
  return worst;
}

Json LeastAdmissions(const Json& result) {
  Json least = nullptr;
  for (const Json& core : result["core"]) {
    const Json& one = core["admissions"]["per_second"];
    if (least.is_null() || one < least) least = one;
  }
  return least;
}

Json MedianOf(const Json& comparisons, const char* arm, const char* figure) {
  for (const Json& one : comparisons) {
    if (one["arm"] == arm && !one[figure].is_null()) return one[figure]["median"];
  }
  return nullptr;
}

Json MiddleDoor(const Json& hop) {
  auto rates = hop["door_admissions_per_second"].get<std::vector<double>>();
  if (rates.empty()) return nullptr;
  std::ranges::sort(rates);
  return rates[(rates.size() - 1) / 2];
}

void WriteCore(const Json& core, std::ostream& out) {
  out << core["groups"] << " groups with " << core["streams"] << " streams, prompts of "
      << core["prompt_tokens"] << " tokens; us:       p50       p99       max\n";
  for (const Json& one : core["decisions"]) {
    out << "  decision by " << std::left << std::setw(42) << one["policy"].get<std::string>()
        << std::right << Column(one["p50_us"], 10, 2) << Column(one["p99_us"], 10, 2)
        << Column(one["max_us"], 10, 1) << "\n";
  }
  const Json& all = core["admissions"];
  out << "  admission" << std::string(45, ' ') << Column(all["p50_us"], 10, 2)
      << Column(all["p99_us"], 10, 2) << Column(all["max_us"], 10, 1) << "   "
      << Column(all["per_second"], 0, 0) << " a second, "
      << Column(all["with_ends_per_second"], 0, 0) << " with the ends of as many\n\n";
}

// "  queue_full 3": what attempts ended with that were not answered.
std::string OtherOutcomes(const Json& run) {
  std::string text;
  for (const auto& [outcome, count] : run["outcomes"].items()) {
    if (outcome != "whole") text += "  " + outcome + " " + count.dump();
  }
  return text;
}

void WriteHops(const Json& hop, std::ostream& out) {
  out << "One-token requests, " << hop["requests_per_second"] << " a second for " << hop["seconds"]
      << " s:\n  arm              pair  calls  failed    p50 ms    p99 ms    max ms  late p99  "
         "router us/request\n";
  for (const Json& run : hop["runs"]) {
    out << "  " << std::left << std::setw(16) << run["arm"].get<std::string>() << std::right
        << Column(run["pair"], 5, 0) << Column(run["calls"], 7, 0) << Column(run["failed"], 8, 0)
        << Column(run["p50_ms"], 10, 2) << Column(run["p99_ms"], 10, 2)
        << Column(run["max_ms"], 10, 2) << Column(run["late_p99_ms"], 10, 2)
        << Column(run["router_cpu_us"], 19, 0) << OtherOutcomes(run) << "\n";
  }
  out << "  the HTTP door, before a leader that answers at once: " << Column(MiddleDoor(hop), 0, 0)
      << " admissions a second\nOver the pairs, median (lowest to highest):\n";
  for (const Json& one : hop["hops_ms"]) {
    out << "  " << one["arm"].get<std::string>() << " without " << one["without"].get<std::string>()
        << ", ms: p50 " << Spread(one["p50"]) << ", p99 " << Spread(one["p99"]) << "\n";
  }
  for (const Json& one : hop["ratios"]) {
    out << "  " << one["arm"].get<std::string>() << " / " << one["to"].get<std::string>()
        << ": p50 " << Spread(one["p50"]) << ", p99 " << Spread(one["p99"]) << "\n";
  }
}

}  // namespace

void AddRouterTargets(Json& result) {
  const Json& hop = result["hop"];
  result["targets"] = Json::array();
  const auto add = [&](const char* target, double wanted, bool at_least, const Json& reached) {
    Json met = nullptr;
    if (reached.is_number()) {
      met = at_least ? reached.get<double>() >= wanted : reached.get<double>() <= wanted;
    }
    result["targets"].push_back(
        {{"target", target}, {"wanted", wanted}, {"reached", reached}, {"met", met}});
  };
  add("decision p99, worst policy, us", 100, false, WorstDecision(result));
  add("admissions a second by the core", 5'000, true, LeastAdmissions(result));
  add("admissions a second by the HTTP door", 5'000, true, MiddleDoor(hop));
  add("coordinator's hop p99, ms", 1, false, MedianOf(hop["hops_ms"], "coordinator", "p99"));
  add("coordinator / haproxy, p99", 1.5, false, MedianOf(hop["ratios"], "coordinator", "p99"));
}

std::string RouterText(const Json& result) {
  std::ostringstream out;
  for (const Json& core : result["core"]) WriteCore(core, out);
  WriteHops(result["hop"], out);
  out << "HAProxy: "
      << (result["haproxy"].is_null() ? "not installed" : result["haproxy"].get<std::string>())
      << "\nTargets:\n";
  for (const Json& target : result["targets"]) {
    const Json& met = target["met"];
    const char* verdict = met.is_null() ? "not measured" : met.get<bool>() ? "met" : "missed";
    out << "  " << std::left << std::setw(40) << target["target"].get<std::string>() << std::right
        << Column(target["wanted"], 9, 1) << Column(target["reached"], 12, 2) << "  " << verdict
        << "\n";
  }
  return out.str();
}

}  // namespace shoal::cli
