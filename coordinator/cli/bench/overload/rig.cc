#include "coordinator/cli/bench/overload/rig.h"

#include <stdlib.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>

#include "coordinator/cli/support/programs.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::cli {
namespace {

constexpr int64_t kRigReadyMs = 60'000;
constexpr int64_t kPollMs = 50;
constexpr int64_t kRigStopMs = 5'000;
constexpr size_t kLastLines = 20;
// What its log says of its two ports, before each.
constexpr std::string_view kHttpPort = "HTTP on ";
constexpr std::string_view kRpcPort = ", workers and upstream programs on ";
// Of the capacity. With vip's fifth it is 1.6 times as much.
constexpr std::array<double, kTrafficTenants> kEdgeShares = {0, 0.9, 0.5};
constexpr std::array<int, kTrafficTenants> kWeights = {4, 2, 1};
constexpr double kBurstSeconds = 0.5;

std::vector<std::string> CoordinatorCommand(const RigOptions& options) {
  std::vector<std::string> command = {ProgramPath("shoal-coordinator")};
  const auto add = [&](const char* flag, const std::string& value) {
    if (!value.empty()) command.insert(command.end(), {flag, value});
  };
  add("--model", options.model);
  add("--port", "0");
  add("--rpc-port", "0");
  if (options.groups > 0) {
    add("--executor", "local");
    add("--groups", std::to_string(options.groups));
    add("--threads", "1");
    add("--sequences-max", std::to_string(options.sequences_max));
  }
  add("--protections", options.protections);
  add("--tenants-file", options.tenants_file);
  add("--breaker-rules", options.breaker_rules);
  add("--ladder", options.ladder);
  return command;
}

}  // namespace

EdgeLimits MakeEdgeLimits(double capacity_tokens_per_second, int64_t burst_tokens_min) {
  EdgeLimits limits{.burst_tokens_min = burst_tokens_min};
  for (size_t i = 0; i < kTrafficTenants; ++i) {
    limits.tokens_per_second[i] = kEdgeShares[i] * capacity_tokens_per_second;
  }
  return limits;
}

std::array<std::string, kTrafficTenants> TenantKeys() {
  std::array<std::string, kTrafficTenants> keys;
  for (size_t i = 0; i < kTrafficTenants; ++i) {
    keys[i] = "overload-bench-" + std::string(kTenantTraits[i].name);
  }
  return keys;
}

std::string TenantsYaml(const EdgeLimits& limits) {
  const auto keys = TenantKeys();
  std::ostringstream out;
  out << "tenants:\n";
  for (size_t i = 0; i < kTrafficTenants; ++i) {
    const double rate = limits.tokens_per_second[i];
    out << "  - name: " << kTenantTraits[i].name << "\n    keys: [" << keys[i]
        << "]\n    class: " << kTenantTraits[i].service_class << "\n    weight: " << kWeights[i]
        << "\n";
    if (rate <= 0) continue;
    const auto burst = static_cast<int64_t>(rate * kBurstSeconds) + 1;
    out << "    tokens_per_second: " << static_cast<int64_t>(rate) + 1
        << "\n    burst_tokens: " << std::max(burst, limits.burst_tokens_min) << "\n";
  }
  out << "classes:\n  sheddable:\n    floor_share: 0.05\n";
  return out.str();
}

ScratchFolder::ScratchFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "shoal_overload_XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) Throw(ErrorCode::kFailed, path, ": cannot be made");
  path_ = path;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;  // A folder of temporary files that cannot be removed harms nobody.
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchFolder::Write(const std::string& name, const std::string& text) const {
  const std::string path = path_ + "/" + name;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) Throw(ErrorCode::kFailed, path, ": cannot be written");
  // Keys are in it.
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  return path;
}

struct Rig::Lines {
  void Add(std::string_view line) {
    const std::lock_guard<std::mutex> lock(mutex);
    const size_t http_at = line.find(kHttpPort);
    const size_t rpc_at = line.find(kRpcPort);
    if (http_at != line.npos && rpc_at != line.npos) {
      http = line.substr(http_at + kHttpPort.size(), rpc_at - http_at - kHttpPort.size());
      rpc = line.substr(rpc_at + kRpcPort.size());
    }
    last.emplace_back(line);
    if (last.size() > kLastLines) last.pop_front();
  }

  std::mutex mutex;  // The child's thread adds, this one looks.
  std::string http;  // HOST:PORT; empty: it does not listen yet.
  std::string rpc;
  std::deque<std::string> last;
};

Rig::Rig(const RigOptions& options) : lines_(std::make_shared<Lines>()) {
  const std::vector<std::string> command = CoordinatorCommand(options);
  const auto add = [lines = lines_](std::string_view line) { lines->Add(line); };
  child_ = std::make_unique<launch::ChildProcess>(
      launch::ChildOptions{.command = command, .on_stdout = add, .on_stderr = add});
  AwaitPorts();
  AwaitGroups(options.groups);
}

void Rig::AwaitPorts() {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kRigReadyMs);
  while (rpc_address_.empty()) {
    if (child_->WaitFor(kPollMs)) Fail("ended before it listened");
    if (deadline.Passed(clock)) Fail("did not listen after a minute");
    const std::lock_guard<std::mutex> lock(lines_->mutex);
    if (!lines_->http.empty()) address_ = ParseHttpUrl("http://" + lines_->http);
    rpc_address_ = lines_->rpc;
  }
}

void Rig::AwaitGroups(int32_t groups) {
  const HttpClient client("http://" + address_.host + ":" + address_.port, TenantKeys()[0]);
  const std::string wanted = Str("\nshoal_groups_ready ", groups, "\n");
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, kRigReadyMs);
  while (client.Get("/metrics").body.find(wanted) == std::string::npos) {
    if (child_->WaitFor(kPollMs)) Fail("ended before its groups were ready");
    if (deadline.Passed(clock)) Fail("had not all of its groups ready after a minute");
  }
}

void Rig::Fail(const std::string& what) {
  child_->Stop(kRigStopMs);
  std::string text;
  for (const std::string& line : lines_->last) text += "\n  " + line;
  Throw(ErrorCode::kFailed, "shoal-coordinator ", what, "; its last lines:", text);
}

}  // namespace shoal::cli
