// shoal status: what a coordinator says of its groups, once or again and again.

#include <unistd.h>

#include <chrono>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <thread>

#include "coordinator/cli/support/http_client.h"
#include "coordinator/cli/verbs.h"
#include "transport/base/error.h"
#include "transport/config/options.h"
#include "transport/rpc/client.h"
#include "transport/rpc/secret.h"

namespace shoal::cli {
namespace {

struct StatusOptions {
  std::string coordinator = "127.0.0.1:7400";
  std::string url;
  std::string api_key_file;
  bool watch = false;
  int64_t interval_ms = 1'000;
};

config::OptionTable MakeStatusTable(StatusOptions& options) {
  config::OptionTable table(
      {.program = "shoal status",
       .usage = "[options]",
       .summary = "Shows the groups of a coordinator: epoch, ranks, load. Asks its RPC port, or "
                  "with --url its HTTP port, which tells only the totals of all groups.",
       .epilog = "Exit status:\n"
                 "  0  shown; with --watch, SIGINT ends it\n"
                 "  3  the coordinator cannot be reached\n"});
  table.AddString("coordinator", "HOST:PORT", options.coordinator, "The coordinator's RPC port.");
  table.AddString("url", "URL", options.url,
                  "The coordinator's HTTP port, http://HOST:PORT; instead of --coordinator.");
  table.AddString("api-key-file", "FILE", options.api_key_file,
                  "A file with an API key, one line, if the coordinator asks for one.");
  table.AddBool("watch", options.watch, "Show it again until interrupted.");
  table.AddInt("interval-ms", "N", options.interval_ms, {50, 3'600'000},
               "With --watch: how often.");
  return table;
}

std::string ReadKey(const StatusOptions& options) {
  return options.api_key_file.empty() ? "" : rpc::ReadSecretFile(options.api_key_file);
}

std::string GroupText(const GroupStatus& group) {
  std::ostringstream out;
  out << group.name << ": " << ToString(group.state) << "\n"
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
      << status.requests_waiting << ", groups lost " << status.group_losses_total << "\n";
  if (status.groups.empty()) out << "no group has joined\n";
  for (const GroupStatus& group : status.groups) out << GroupText(group);
  return out.str();
}

// The samples of /metrics that have no labels, one a line.
std::string HttpText(const HttpClient& client) {
  const HttpAnswer answer = client.Get("/metrics");
  if (answer.status != 200) {
    Throw(ErrorCode::kPeerFailed, "/metrics answered with status ", answer.status,
          answer.status == 401 ? ": give --api-key-file" : "");
  }
  std::istringstream lines(answer.body);
  std::ostringstream out;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("shoal_") || line.find('{') != std::string::npos) continue;
    const size_t space = line.find(' ');
    out << std::left << std::setw(36) << line.substr(6, space - 6) << line.substr(space + 1)
        << "\n";
  }
  return out.str();
}

}  // namespace

int StatusVerb(int argc, const char* const* argv) {
  StatusOptions options;
  config::OptionTable table = MakeStatusTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  const std::string key = ReadKey(options);
  const bool clear = options.watch && isatty(STDOUT_FILENO) == 1;
  do {
    // A connection each time: the coordinator may come and go while this watches.
    std::string text;
    try {
      if (options.url.empty()) {
        rpc::Client client({.address = options.coordinator, .api_key = key});
        text = RpcText(client);
      } else {
        text = HttpText(HttpClient(options.url, key));
      }
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
