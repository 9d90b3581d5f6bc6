// shoal postmortem: what happened to a region lately, why, and what to turn.

#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/cli/support/coordinator_access.h"
#include "coordinator/cli/support/record_text.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/core/record/incident.h"
#include "coordinator/gateway/json/json_writer.h"
#include "coordinator/gateway/json/records_json.h"
#include "transport/config/options.h"
#include "transport/rpc/client.h"

namespace shoal::cli {
namespace {

struct PostmortemOptions {
  CoordinatorAccess coordinator;
  std::string since = "10m";
  bool json = false;
};

config::OptionTable MakePostmortemTable(PostmortemOptions& options) {
  config::OptionTable table(
      {.program = "shoal postmortem",
       .usage = "[options]",
       .summary = "Tells what happened to a coordinator's region lately: which groups were lost or "
                  "left out, which breakers opened, what was refused and to whom, why, and which "
                  "flags to turn. Each figure says which records it comes from.",
       .epilog = "Exit status:\n"
                 "  0  told\n"
                 "  2  --since is not a duration\n"
                 "  3  the coordinator cannot be reached\n"});
  AddCoordinatorAccess(table, options.coordinator);
  table.AddString("since", "DURATION", options.since, "How far back: 500ms, 30s, 10m, 2h.");
  table.AddBool("json", options.json, "One line of JSON.");
  return table;
}

void PrintTallies(std::ostream& out, std::string_view title,
                  const std::vector<core::Tally>& tallies) {
  out << title << (tallies.empty() ? ": none\n" : "\n");
  for (const core::Tally& tally : tallies) {
    out << "  " << std::setw(8) << FigureText(tally.value) << "  " << tally.name << " ("
        << tally.source << ")\n";
  }
}

void PrintTimeLine(std::ostream& out, const core::IncidentReport& report) {
  out << "time line" << (report.time_line.empty() ? ": nothing happened to the region\n" : "\n");
  if (report.time_line_left_out > 0) {
    out << "  " << report.time_line_left_out << " earlier entries are left out\n";
  }
  for (const core::TimeLineEntry& entry : report.time_line) {
    out << "  " << TimeText(entry.unix_ms) << "  " << entry.what << " (record " << entry.record
        << ")\n";
    if (!entry.figures.empty()) out << "      " << FiguresText(entry.figures) << "\n";
  }
}

void PrintCauses(std::ostream& out, const core::IncidentReport& report) {
  out << "causes of what was not served" << (report.causes.empty() ? ": none\n" : "\n");
  for (const core::CauseShare& cause : report.causes) {
    out << "  " << std::setw(8) << cause.count << "  " << core::ToString(cause.cause);
    if (cause.share > 0) {
      out << ", " << std::fixed << std::setprecision(1) << 100 * cause.share << " %";
    }
    out << ": " << cause.because << " (" << cause.source << ")\n";
  }
}

// `with_key`: an API key was shown.
std::string ReportText(const core::IncidentReport& report, bool with_key) {
  std::ostringstream out;
  out << "from " << TimeText(report.from_unix_ms) << " to " << TimeText(report.until_unix_ms)
      << ", " << DurationText(report.until_unix_ms - report.from_unix_ms) << "\n";
  if (with_key) {
    out << "of requests, those of the API key's tenant alone (a key of --api-keys-file: all); of "
           "groups, breakers and the ladder, all\n";
  }
  if (!report.complete) {
    out << "older records had to go (" << report.forgotten
        << " since the coordinator began): this is not all of the time asked for\n";
  }
  PrintTimeLine(out, report);
  PrintTallies(out, "records by kind", report.outcomes);
  PrintTallies(out, "answered by a lower rung of the ladder, by what the model said",
               report.by_rung);
  PrintTallies(out, "rejected by reason", report.by_reason);
  PrintTallies(out, "rejected by class", report.by_class);
  PrintTallies(out, "rejected by tenant", report.by_tenant);
  PrintTallies(out, "longest waits for a first token, in ms", report.worst_waits);
  PrintCauses(out, report);
  for (const std::string& advice : report.advice) out << "advice: " << advice << "\n";
  return out.str();
}

void WriteTallies(gateway::JsonWriter& json, std::string_view key,
                  const std::vector<core::Tally>& tallies) {
  json.Key(key).BeginArray();
  for (const core::Tally& tally : tallies) {
    json.BeginObject().Key("name").String(tally.name);
    json.Key("value").Raw(gateway::FormatNumber(tally.value));
    json.Key("source").String(tally.source).EndObject();
  }
  json.EndArray();
}

void WriteTimeLine(gateway::JsonWriter& json, const core::IncidentReport& report) {
  json.Key("time_line_left_out").Int(report.time_line_left_out);
  json.Key("time_line").BeginArray();
  for (const core::TimeLineEntry& entry : report.time_line) {
    json.BeginObject().Key("unix_ms").Int(entry.unix_ms).Key("kind").String(ToString(entry.kind));
    json.Key("what").String(entry.what).Key("record").Int(static_cast<int64_t>(entry.record));
    json.Key("figures");
    gateway::WriteFigures(json, entry.figures);
    json.EndObject();
  }
  json.EndArray();
}

std::string ReportJson(const core::IncidentReport& report) {
  gateway::JsonWriter json;
  json.BeginObject().Key("from_unix_ms").Int(report.from_unix_ms);
  json.Key("until_unix_ms").Int(report.until_unix_ms).Key("complete").Bool(report.complete);
  json.Key("forgotten").Int(static_cast<int64_t>(report.forgotten));
  WriteTimeLine(json, report);
  WriteTallies(json, "records", report.outcomes);
  WriteTallies(json, "answered_by_rung", report.by_rung);
  WriteTallies(json, "rejected_by_reason", report.by_reason);
  WriteTallies(json, "rejected_by_class", report.by_class);
  WriteTallies(json, "rejected_by_tenant", report.by_tenant);
  WriteTallies(json, "worst_waits_ms", report.worst_waits);
  json.Key("causes").BeginArray();
  for (const core::CauseShare& cause : report.causes) {
    json.BeginObject().Key("cause").String(core::ToString(cause.cause));
    json.Key("count").Int(cause.count).Key("share").Raw(gateway::FormatNumber(cause.share));
    json.Key("because").String(cause.because).Key("source").String(cause.source).EndObject();
  }
  json.EndArray().Key("advice").BeginArray();
  for (const std::string& advice : report.advice) json.String(advice);
  json.EndArray().EndObject();
  return json.Take() + "\n";
}

}  // namespace

int PostmortemVerb(int argc, const char* const* argv) {
  PostmortemOptions options;
  config::OptionTable table = MakePostmortemTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  const int64_t since_ms = ParseDurationMs("--since", options.since);
  rpc::Client client(
      {.address = options.coordinator.FindAddress(), .api_key = options.coordinator.ReadApiKey()});
  const core::IncidentReport report =
      core::MakeIncidentReport(client.Records({.since_ms = since_ms}), since_ms);
  std::cout << (options.json ? ReportJson(report)
                             : ReportText(report, !options.coordinator.api_key_file.empty()));
  return 0;
}

}  // namespace shoal::cli
