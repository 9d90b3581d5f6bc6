#include "coordinator/cli/bench/overload/report.h"

#include <algorithm>
#include <functional>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "coordinator/cli/bench/overload/traffic.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

const Json* FindRun(const Json& result, const std::string& arm, const std::string& shape,
                    double factor) {
  for (const Json& run : result["runs"]) {
    if (run["arm"] == arm && run["shape"] == shape && run["factor"] == factor) return &run;
  }
  return nullptr;
}

struct Target {
  const char* text;
  double wanted;
  bool at_least;
  std::function<Json(const Json& result)> reached;
};

Json Of(const Json& result, const char* shape, double factor, const Json::json_pointer& path) {
  const Json* run = FindRun(result, "protected", shape, factor);
  return run == nullptr ? Json(nullptr) : run->at(path);
}

std::vector<Target> Targets() {
  const auto of = [](const char* shape, double factor, const char* path) {
    return [=](const Json& result) { return Of(result, shape, factor, Json::json_pointer(path)); };
  };
  return {
      {"goodput at 2 x, share of the peak", 0.95, true, of("steady", 2, "/goodput_share")},
      {"goodput at 10 x, share of the peak", 0.90, true, of("steady", 10, "/goodput_share")},
      {"vip success at 10 x", 0.999, true, of("steady", 10, "/classes/vip/success")},
      {"vip time to first token p99 at 10 x, of unloaded", 1.2, false,
       of("steady", 10, "/classes/vip/ttft_ratio")},
      {"rejections p99 at 10 x, ms", 10, false, of("steady", 10, "/rejection_ms/p99")},
      {"attempts per call of patient clients in a storm", 1.1, false,
       of("storm", 10, "/patient_attempts_per_call")},
      {"attempts per call of all clients in a storm", 1.1, false,
       of("storm", 10, "/attempts_per_call")},
      {"seconds to recover from a storm", 5, false, of("storm", 10, "/recovery_seconds")},
  };
}

// A figure, or a dash if there is none, in `width` columns.
std::string Cell(const Json& value, int width, int digits, double scale = 1) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << std::setw(width);
  if (value.is_number()) {
    out << value.get<double>() * scale;
  } else {
    out << "-";
  }
  return out.str();
}

std::string RunLine(const Json& run) {
  std::ostringstream out;
  out << std::left << std::setw(16) << run["arm"].get<std::string>() << std::setw(14)
      << run["shape"].get<std::string>() << std::right << Cell(run["factor"], 4, 0)
      << Cell(run["seconds"], 6, 0) << Cell(run["calls"], 7, 0)
      << Cell(run["offered_per_second"], 9, 1) << Cell(run["goodput_per_second"], 9, 1)
      << Cell(run["goodput_share"], 7, 0, 100);
  for (const TenantTraits& tenant : kTenantTraits) {
    out << Cell(run["classes"][std::string(tenant.name)]["success"], 7, 1, 100);
  }
  const Json& vip = run["classes"]["vip"];
  out << Cell(vip["ttft_ms"]["p50"], 8, 1) << Cell(vip["ttft_ms"]["p99"], 8, 1)
      << Cell(vip["ttft_ratio"], 7, 1) << Cell(run["rejection_ms"]["p50"], 8, 1)
      << Cell(run["rejection_ms"]["p99"], 8, 1) << Cell(run["attempts_per_call"], 7, 2)
      << Cell(run["patient_attempts_per_call"], 7, 2) << Cell(run["recovery_seconds"], 7, 1)
      << Cell(run["untyped"], 8, 0) << Cell(run["lateness_ms"]["p99"], 9, 1) << "\n";
  return out.str();
}

// The layer that gives a refusal's code.
std::string LayerOf(const std::string& outcome) {
  static const std::map<std::string, std::string> kLayers = {
      {"quota_exceeded", "edge_limit"},   {"queue_full", "admission"},
      {"kv_full", "admission"},           {"deadline_unreachable", "admission"},
      {"deadline_exceeded", "admission"}, {"breaker_open", "routing"}};
  const auto found = kLayers.find(outcome);
  return found == kLayers.end() ? "" : found->second;
}

constexpr const char* kLayers[] = {"client_retry", "edge_limit", "admission", "routing",
                                   "degradation"};

Json VipSuccess(const Json* storm) {
  return storm == nullptr ? Json(nullptr) : (*storm)["classes"]["vip"]["success"];
}

// What each layer caught in a storm.
Json CaughtBy(const Json& run) {
  Json caught = Json::object();
  for (const char* layer : kLayers) caught[layer] = 0;
  caught["client_retry"] = run["retries_withheld"];
  caught["degradation"] = run["degraded"];
  for (const auto& [outcome, count] : run["outcomes"].items()) {
    const std::string layer = LayerOf(outcome);
    if (!layer.empty()) caught[layer] = caught[layer].get<int64_t>() + count.get<int64_t>();
  }
  caught["client_timeout"] = run["outcomes"].value("client_timeout", Json(0));
  return caught;
}

// Without one layer the others hold if vip fares nearer to how it does with all than with none.
Json Holds(const Json& result, const Json& run) {
  if (!run["arm"].get<std::string>().starts_with("no_")) return nullptr;
  const Json all = VipSuccess(FindRun(result, "protected", "storm", run["factor"]));
  const Json none = VipSuccess(FindRun(result, "control", "storm", run["factor"]));
  const Json without = VipSuccess(&run);
  if (!all.is_number() || !none.is_number() || !without.is_number()) return nullptr;
  return 2 * without.get<double>() >= all.get<double>() + none.get<double>();
}

Json MakeLayers(const Json& result) {
  Json layers = Json::array();
  for (const Json& run : result["runs"]) {
    if (run["shape"] != "storm") continue;
    layers.push_back({{"arm", run["arm"]},
                      {"caught", CaughtBy(run)},
                      {"goodput_share", run["goodput_share"]},
                      {"vip_success", VipSuccess(&run)},
                      {"recovery_seconds", run["recovery_seconds"]},
                      {"holds", Holds(result, run)}});
  }
  return layers;
}

void WriteLayers(const Json& result, std::ostream& out) {
  out << "\nWhat each layer caught in a storm (attempts refused or late; for client_retry, retries "
         "not made),\nand whether the others hold without one: vip fares nearer to protected than "
         "to "
         "control:\n"
      << std::left << std::setw(18) << "arm" << std::right;
  for (const char* layer : kLayers) out << std::setw(16) << layer;
  out << std::setw(16) << "client_timeout" << std::setw(9) << "goodput%" << std::setw(9) << "vip%"
      << std::setw(9) << "recov.s" << std::setw(9) << "holds\n";
  for (const Json& layer : result["layers"]) {
    out << std::left << std::setw(18) << layer["arm"].get<std::string>() << std::right;
    for (const auto& [name, count] : layer["caught"].items()) out << Cell(count, 16, 0);
    const Json& holds = layer["holds"];
    out << Cell(layer["goodput_share"], 9, 0, 100) << Cell(layer["vip_success"], 9, 1, 100)
        << Cell(layer["recovery_seconds"], 9, 1) << std::setw(8)
        << (holds.is_null()     ? "-"
            : holds.get<bool>() ? "yes"
                                : "no")
        << "\n";
  }
}

double PeakPerSecond(const Json& result) {
  double peak = result["capacity_per_second"];
  for (const Json& run : result["runs"]) {
    if (run["shape"] == "steady") peak = std::max(peak, run["goodput_per_second"].get<double>());
  }
  return peak;
}

}  // namespace

void CompleteResult(Json& result) {
  const double peak = PeakPerSecond(result);
  result["peak_per_second"] = peak;
  const Json& unloaded = result["unloaded_ttft_ms"]["p99"];
  for (Json& run : result["runs"]) {
    const double possible = std::min(peak, run["offered_per_second"].get<double>());
    run["goodput_share"] =
        possible > 0 ? Json(run["goodput_per_second"].get<double>() / possible) : Json(nullptr);
    for (auto& [name, tenant] : run["classes"].items()) {
      const Json& first = tenant["ttft_ms"]["p99"];
      const bool both = first.is_number() && unloaded.is_number();
      tenant["ttft_ratio"] =
          both ? Json(first.get<double>() / unloaded.get<double>()) : Json(nullptr);
    }
  }
  result["layers"] = MakeLayers(result);
  result["targets"] = Json::array();
  for (const Target& target : Targets()) {
    const Json reached = target.reached(result);
    Json met = nullptr;
    if (reached.is_number()) {
      const auto figure = reached.get<double>();
      met = target.at_least ? figure >= target.wanted : figure <= target.wanted;
    }
    result["targets"].push_back(
        {{"target", target.text}, {"wanted", target.wanted}, {"reached", reached}, {"met", met}});
  }
}

std::string OverloadText(const Json& result) {
  std::ostringstream out;
  out << "Capacity " << Cell(result["capacity_per_second"], 0, 1) << " requests/s, at the end "
      << Cell(result["capacity_after_per_second"], 0, 1) << ", peak "
      << Cell(result["peak_per_second"], 0, 1) << "; " << result["groups"] << " groups of "
      << result["sequences_max"] << " slots; unloaded time to first token p50 "
      << Cell(result["unloaded_ttft_ms"]["p50"], 0, 1) << " ms, p99 "
      << Cell(result["unloaded_ttft_ms"]["p99"], 0, 1) << " ms (n "
      << result["unloaded_ttft_ms"]["count"] << ")\n\n"
      << std::string(59, ' ') << std::setw(21) << "success %" << std::setw(23)
      << "vip first token ms" << std::setw(16) << "rejected ms" << std::setw(14) << "attempts/call"
      << std::setw(7) << "recov." << std::setw(8) << "" << std::setw(9) << "late ms"
      << "\n"
      << "arm             shape            x     s  calls  offer/s   good/s  peak%    vip normal  "
         "batch     p50     p99  ratio     p50     p99    all patient      s untyped      p99\n";
  for (const Json& run : result["runs"]) out << RunLine(run);
  WriteLayers(result, out);
  out << "\nTargets (protected arm):\n";
  for (const Json& target : result["targets"]) {
    const Json& met = target["met"];
    const char* verdict = met.is_null() ? "not measured" : met.get<bool>() ? "met" : "missed";
    out << "  " << std::left << std::setw(52) << target["target"].get<std::string>() << std::right
        << Cell(target["wanted"], 9, 3) << Cell(target["reached"], 10, 3) << "  " << verdict
        << "\n";
  }
  return out.str();
}

}  // namespace shoal::cli
