#include "coordinator/cli/bench/router/hop.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "coordinator/cli/bench/load/latency.h"
#include "coordinator/cli/bench/load/progress.h"
#include "coordinator/cli/bench/overload/clients.h"
#include "coordinator/cli/bench/overload/rig.h"
#include "coordinator/cli/bench/overload/traffic.h"
#include "coordinator/cli/bench/pairs.h"
#include "coordinator/cli/bench/router/haproxy.h"
#include "coordinator/cli/bench/router/instant_group.h"
#include "transport/base/check.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kPromptTokens = 8;
constexpr double kWarmSeconds = 0.5;
constexpr double kDoorCallsPerSecondMax = 30'000;

// User and system time of a process and all its threads so far; 0 if it is gone.
double CpuSeconds(pid_t pid) {
  std::ifstream file(Str("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  // Fields after the name, which may hold anything: the 14th and 15th of all.
  std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string word;
  double ticks = 0;
  for (int field = 3; field <= 15 && rest >> word; ++field) {
    if (field >= 14) ticks += std::strtod(word.c_str(), nullptr);
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::vector<Call> OneTokenCalls(double rate, double seconds, uint64_t seed) {
  const std::vector<RatePiece> pieces = {{seconds, rate}};
  TrafficOptions traffic = {.capacity = rate, .seed = seed};
  traffic.prompts = {.lowest = kPromptTokens, .highest = kPromptTokens};
  traffic.outputs = {.lowest = 1, .highest = 1};
  std::vector<Call> calls = PlanCalls(pieces, traffic);
  // Nobody is more important than others here.
  for (Call& call : calls) call.tenant = TrafficTenant::kNormal;
  return calls;
}

struct HopArm {
  std::string arm;
  HttpAddress address;
  pid_t router = 0;
};

class Hops {
 public:
  explicit Hops(const HopOptions& options) : options_(options) {
    result_ = {{"requests_per_second", options.requests_per_second},
               {"seconds", options.seconds},
               {"runs", Json::array()},
               {"door_admissions_per_second", Json::array()}};
  }

  Json Run() {
    progress_.ShowNow("starting a coordinator for a leader that answers at once");
    const std::string tenants = scratch_.Write("tenants.yaml", TenantsYaml({}));
    Rig coordinator({.model = options_.model, .groups = 0, .tenants_file = tenants});
    const InstantGroup leader(coordinator.rpc_address(), options_.model);
    coordinator.AwaitGroups(1);
    progress_.ShowNow("starting a coordinator with groups");
    Rig groups({.model = options_.model,
                .groups = options_.groups,
                .sequences_max = 32,
                .tenants_file = tenants});
    std::vector<HopArm> targets = {{"coordinator", coordinator.address(), coordinator.pid()},
                                   {"groups", groups.address(), groups.pid()}};
    std::vector<std::unique_ptr<Haproxy>> proxies;
    if (options_.haproxy) {
      const auto add = [&](const char* arm, std::unique_ptr<Haproxy> proxy) {
        targets.push_back({arm, proxy->address(), proxy->pid()});
        proxies.push_back(std::move(proxy));
      };
      add("backend", Haproxy::Answering());
      add("haproxy", Haproxy::InFrontOf(proxies.front()->address()));
      add("haproxy_groups", Haproxy::InFrontOf(groups.address()));
    }
    for (const HopArm& target : targets) RunOne(target, -1, kWarmSeconds);
    for (int64_t pair = 0; pair < options_.pairs; ++pair) {
      for (const HopArm& target : targets) RunOne(target, pair, options_.seconds);
      std::ranges::reverse(targets);  // None is always the first, or after the same one.
      MeasureDoor(coordinator);
    }
    CompareHops(result_);
    return std::move(result_);
  }

 private:
  ClientOptions MakeClients(const HttpAddress& address) {
    ClientOptions clients;
    clients.server = address;
    clients.api_keys = TenantKeys();
    clients.first_prompt = prompts_;
    return clients;
  }

  // A pair below 0 is not counted.
  void RunOne(const HopArm& target, int64_t pair, double seconds) {
    progress_.ShowNow(Str(target.arm, ", pair ", pair + 1, " of ", options_.pairs));
    // The same arrivals for all arms of a pair.
    const auto seed = static_cast<uint64_t>(options_.seed + std::max<int64_t>(pair, 0));
    const std::vector<Call> calls = OneTokenCalls(options_.requests_per_second, seconds, seed);
    const double cpu_before = CpuSeconds(target.router);
    const LoadRecords records = RunOpenLoop(MakeClients(target.address), calls);
    const double cpu = CpuSeconds(target.router) - cpu_before;
    prompts_ += calls.size();
    if (pair < 0) return;
    std::vector<double> latencies;
    for (const CallRecord& call : records.calls) {
      if (call.good()) latencies.push_back(static_cast<double>(call.end - call.due) / 1e6);
    }
    std::ranges::sort(latencies);
    std::vector<double> late = records.lateness_ms;
    std::ranges::sort(late);
    const auto at = [](const std::vector<double>& sorted, double p) {
      return sorted.empty() ? Json(nullptr) : Json(Percentile(sorted, p));
    };
    result_["runs"].push_back({{"arm", target.arm},
                               {"pair", pair},
                               {"calls", calls.size()},
                               {"failed", calls.size() - latencies.size()},
                               {"outcomes", records.attempts},
                               {"p50_ms", at(latencies, 50)},
                               {"p99_ms", at(latencies, 99)},
                               {"max_ms", at(latencies, 100)},
                               {"late_p99_ms", at(late, 99)},
                               {"router_cpu_us", 1e6 * cpu / static_cast<double>(calls.size())}});
  }

  void MeasureDoor(const Rig& coordinator) {
    progress_.ShowNow("what the HTTP door admits");
    const std::vector<Call> calls = OneTokenCalls(kDoorCallsPerSecondMax, options_.seconds, 1);
    const LoadRecords records = RunClosedLoop(MakeClients(coordinator.address()), calls,
                                              options_.door_clients, options_.seconds);
    prompts_ += records.calls.size();
    TimeNs end = 1;
    int64_t good = 0;
    for (const CallRecord& call : records.calls) {
      end = std::max(end, call.end);
      if (call.good()) ++good;
    }
    result_["door_admissions_per_second"].push_back(static_cast<double>(good) * kSecondNs /
                                                    static_cast<double>(end));
  }

  const HopOptions& options_;
  ScratchFolder scratch_;
  Progress progress_;
  uint64_t prompts_ = 0;
  Json result_;
};

using Combine = std::function<double(double one, double other)>;

// What was made of both arms' figures in each pair that has both.
Json OverPairs(const Json& runs, const std::string& arm, const std::string& other,
               const char* figure, const Combine& combine) {
  std::vector<double> values;
  for (const Json& run : runs) {
    for (const Json& beside : runs) {
      if (run["arm"] != arm || beside["arm"] != other || run["pair"] != beside["pair"]) continue;
      if (!run[figure].is_number() || !beside[figure].is_number()) continue;
      values.push_back(combine(run[figure], beside[figure]));
    }
  }
  return values.empty() ? Json(nullptr) : SpreadOf(std::move(values)).ToJson();
}

}  // namespace

void CompareHops(Json& result) {
  const Json& runs = result["runs"];
  const auto both = [&](const char* arm, const char* other, const Combine& combine) {
    return Json{{"p50", OverPairs(runs, arm, other, "p50_ms", combine)},
                {"p99", OverPairs(runs, arm, other, "p99_ms", combine)}};
  };
  Json ratios = Json::array();
  Json hops = Json::array();
  for (const auto& [arm, other] :
       {std::pair{"coordinator", "haproxy"}, std::pair{"haproxy_groups", "groups"}}) {
    Json one = {{"arm", arm}, {"to", other}};
    one.update(both(arm, other, std::divides<double>()));
    ratios.push_back(std::move(one));
  }
  for (const auto& [arm, other] :
       {std::pair{"coordinator", "backend"}, std::pair{"haproxy", "backend"},
        std::pair{"haproxy_groups", "groups"}}) {
    Json one = {{"arm", arm}, {"without", other}};
    one.update(both(arm, other, std::minus<double>()));
    hops.push_back(std::move(one));
  }
  result["ratios"] = std::move(ratios);
  result["hops_ms"] = std::move(hops);
}

Json MeasureHops(const HopOptions& options) { return Hops(options).Run(); }

}  // namespace shoal::cli
