// shoal status: what a coordinator says of its groups, once or again and again.

#include <unistd.h>

#include <chrono>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <thread>
#include <utility>

#include "coordinator/cli/support/coordinator_access.h"
#include "coordinator/cli/support/http_client.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/gateway/json/status_json.h"
#include "transport/base/error.h"
#include "transport/config/options.h"
#include "transport/rpc/client.h"

namespace shoal::cli {
namespace {

struct StatusOptions {
  CoordinatorAccess coordinator;
  std::string url;
  bool json = false;
  bool watch = false;
  int64_t interval_ms = 1'000;
};

config::OptionTable MakeStatusTable(StatusOptions& options) {
  config::OptionTable table(
      {.program = "shoal status",
       .usage = "[options]",
       .summary = "Shows the groups of a coordinator: epoch, state, why the last one was lost, "
                  "ranks, load. Asks its RPC port, or with --url its HTTP port, which as text "
                  "tells only the totals of all groups.",
       .epilog = "Exit status:\n"
                 "  0  shown; with --watch, SIGINT ends it\n"
                 "  3  the coordinator cannot be reached\n"});
  AddCoordinatorAccess(table, options.coordinator);
  table.AddString("url", "URL", options.url,
                  "The coordinator's HTTP port, http://HOST:PORT; instead of --coordinator.");
  table.AddBool("json", options.json, "One line of JSON, as GET /v1/cluster has it.");
  table.AddBool("watch", options.watch, "Show it again until interrupted.");
  table.AddInt("interval-ms", "N", options.interval_ms, {50, 3'600'000},
               "With --watch: how often.");
  return table;
}

// Of a group that this coordinator starts; nothing of any other.
std::string ManagedText(const GroupStatus& group) {
  std::ostringstream out;
  if (group.managed) {
    out << "  managed, restarts " << group.restarts_total;
    if (group.state == GroupState::kLost) {
      out << (group.next_start_ms < 0 ? std::string(", stays away: shoal drain --restart starts it")
                                      : Str(", next start in ", group.next_start_ms, " ms"));
    }
    out << "\n";
  }
  if (!group.last_loss.empty()) out << "  last loss: " << group.last_loss << "\n";
  return out.str();
}

std::string GroupText(const GroupStatus& group) {
  std::ostringstream out;
  out << group.name << ": " << ToString(group.state) << "\n" << ManagedText(group);
  if (group.ranks.empty()) return out.str();  // It is not there.
  out << "  streams " << group.streams << "\n"
      << "  serves " << group.model_name << ", numerics " << group.numerics_id << "\n"
      << "  steps " << group.stats.steps_total << ", running " << group.stats.sequences_running
      << ", waiting " << group.stats.requests_waiting << ", KV blocks "
      << group.stats.kv_blocks_used << " of " << group.stats.kv_blocks_total << ", preempted "
      << group.stats.preemptions_total << "\n"
      << "  prefix cache: " << group.stats.prefix_cache_hit_tokens_total << " of "
      << group.stats.prefix_cache_query_tokens_total << " tokens found for "
      << group.stats.prefix_cache_queries_total << " sequences, " << group.stats.kv_blocks_kept
      << " blocks kept\n"
      << "  speculation: " << group.stats.accepted_tokens_total << " of "
      << group.stats.drafted_tokens_total << " guessed tokens right\n";
  for (const RankStatus& rank : group.ranks) {
    out << "  rank " << rank.rank << " (" << rank.host << ", pid " << rank.pid << "), " << rank.isa
        << ", " << rank.threads << " threads, " << rank.state << "\n";
  }
  return out.str();
}

std::string RpcText(rpc::Client& client) {
  const RegionStatus status = client.Status();
  std::ostringstream out;
  std::string name;
  for (const ServedModel& model : status.models) {
    out << "model " << model.name << ", context " << model.context_tokens << " tokens, numerics "
        << (model.numerics_id.empty() ? "not known yet" : model.numerics_id) << "\n  "
        << (model.name == name ? "takes no new requests, " : "") << "groups ready "
        << model.groups_ready << ", waiting " << model.requests_waiting << ", canary "
        << (model.canary_digest.empty() ? "not known yet" : model.canary_digest) << "\n";
    name = model.name;
  }
  out << "requests " << status.requests_total << ", streams " << status.streams_live << ", waiting "
      << status.requests_waiting << ", groups lost " << status.group_losses_total
      << ", started again " << status.group_restarts_total << "\nstreams resumed";
  int64_t resumed = 0;
  for (size_t cause = 0; cause < status.streams_resumed.size(); ++cause) {
    const int64_t count = status.streams_resumed.at(cause);
    resumed += count;
    if (count > 0) out << " " << count << " (" << ToString(static_cast<LossCause>(cause)) << ")";
  }
  if (resumed == 0) out << " 0";
  out << ", adopted " << status.streams_adopted_total << "\n";
  if (status.groups.empty()) out << "no group has joined\n";
  for (const GroupStatus& group : status.groups) out << GroupText(group);
  return out.str();
}

// Errors: kPeerFailed unless it is 200.
std::string GetBody(const HttpClient& client, const std::string& path) {
  HttpAnswer answer = client.Get(path);
  if (answer.status != 200) {
    Throw(ErrorCode::kPeerFailed, path, " answered with status ", answer.status,
          answer.status == 401 ? ": give --api-key-file" : "");
  }
  return std::move(answer.body);
}

// The samples of /metrics that have no labels, one a line.
std::string HttpText(const HttpClient& client) {
  std::istringstream lines(GetBody(client, "/metrics"));
  std::ostringstream out;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("shoal_") || line.find('{') != std::string::npos) continue;
    const size_t space = line.find(' ');
    out << std::left << std::setw(36) << line.substr(6, space - 6) << line.substr(space + 1)
        << "\n";
  }
  return out.str();
}

std::string AskRpc(const StatusOptions& options, const std::string& key) {
  rpc::Client client({.address = options.coordinator.FindAddress(), .api_key = key});
  return options.json ? gateway::StatusJson(client.Status()) + "\n" : RpcText(client);
}

std::string AskHttp(const StatusOptions& options, const std::string& key) {
  const HttpClient client(options.url, key);
  return options.json ? GetBody(client, "/v1/cluster") + "\n" : HttpText(client);
}

}  // namespace

int StatusVerb(int argc, const char* const* argv) {
  StatusOptions options;
  config::OptionTable table = MakeStatusTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  const std::string key = options.coordinator.ReadApiKey();
  const bool clear = options.watch && !options.json && isatty(STDOUT_FILENO) == 1;
  do {
    // A connection each time: the coordinator may come and go while this watches.
    std::string text;
    try {
      text = options.url.empty() ? AskRpc(options, key) : AskHttp(options, key);
    } catch (const Error& error) {
      if (!options.watch) throw;
      text = std::string(error.what()) + "\n";  // Shown; it may be back the next time.
    }
    std::cout << (clear ? "\033[H\033[J" : "") << text << std::flush;
    if (options.watch) std::this_thread::sleep_for(std::chrono::milliseconds(options.interval_ms));
  } while (options.watch && std::cout);
  return 0;
}

}  // namespace shoal::cli
