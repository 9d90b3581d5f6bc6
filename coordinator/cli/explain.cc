// shoal explain: what became of one request, and why.

#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "coordinator/cli/support/coordinator_access.h"
#include "coordinator/cli/support/record_text.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/core/record/story.h"
#include "coordinator/gateway/json/json_writer.h"
#include "coordinator/gateway/json/records_json.h"
#include "transport/base/check.h"
#include "transport/base/error.h"
#include "transport/config/options.h"
#include "transport/rpc/client.h"

namespace shoal::cli {
namespace {

struct ExplainOptions {
  std::string request;
  CoordinatorAccess coordinator;
  bool json = false;
};

config::OptionTable MakeExplainTable(ExplainOptions& options) {
  config::OptionTable table(
      {.program = "shoal explain",
       .usage = "REQUEST_ID [options]",
       .summary =
           "Tells what became of a request: when it was admitted and by which figures, how "
           "long it waited, where it was placed, what interrupted it, how it ended, and what "
           "its caller can do. REQUEST_ID is any id of it: the X-Request-Id of its answer, "
           "the answer's own id (cmpl-..., chatcmpl-...), or a stream's.",
       .epilog = "Exit status:\n"
                 "  0  told\n"
                 "  1  the coordinator remembers nothing of it\n"
                 "  3  the coordinator cannot be reached\n"});
  table.AddPositional("request-id", options.request, "The request's id.");
  AddCoordinatorAccess(table, options.coordinator);
  table.AddBool("json", options.json, "One line of JSON.");
  return table;
}

std::string StoryText(const core::Story& story) {
  std::ostringstream out;
  out << "request " << (story.request.empty() ? std::string("without a name") : story.request);
  if (story.stream != StreamId{}) out << ", stream " << story.stream;
  out << ", tenant " << (story.tenant.empty() ? "default" : story.tenant);
  if (story.service_class) out << ", class " << ToString(*story.service_class);
  out << ", since " << TimeText(story.began_unix_ms) << "\n";
  for (const core::StoryLine& line : story.lines) {
    out << std::setw(8) << line.at_ms << " ms  " << line.what << "\n";
    if (!line.figures.empty()) out << "             " << FiguresText(line.figures) << "\n";
  }
  out << "outcome: " << core::ToString(story.outcome);
  if (story.reason) out << ", " << ToString(*story.reason);
  out << (story.degraded ? ", degraded\n" : "\n");
  for (const std::string& advice : story.advice) out << "what to do: " << advice << "\n";
  return out.str();
}

void WriteStory(gateway::JsonWriter& json, const core::Story& story) {
  json.BeginObject().Key("request").String(story.request);
  json.Key("stream").String(story.stream == StreamId{} ? "" : Str(story.stream));
  json.Key("tenant").String(story.tenant);
  json.Key("class").String(story.service_class ? ToString(*story.service_class) : "");
  json.Key("began_unix_ms").Int(story.began_unix_ms);
  json.Key("outcome").String(core::ToString(story.outcome));
  json.Key("reason").String(story.reason ? ToString(*story.reason) : "");
  json.Key("degraded").Bool(story.degraded).Key("lines").BeginArray();
  for (const core::StoryLine& line : story.lines) {
    json.BeginObject().Key("at_ms").Int(line.at_ms).Key("kind").String(ToString(line.kind));
    json.Key("what").String(line.what).Key("figures");
    gateway::WriteFigures(json, line.figures);
    json.EndObject();
  }
  json.EndArray().Key("advice").BeginArray();
  for (const std::string& advice : story.advice) json.String(advice);
  json.EndArray().EndObject();
}

std::string StoriesJson(const std::string& request, const std::vector<core::Story>& stories) {
  gateway::JsonWriter json;
  json.BeginObject().Key("request").String(request).Key("stories").BeginArray();
  for (const core::Story& story : stories) WriteStory(json, story);
  json.EndArray().EndObject();
  return json.Take() + "\n";
}

[[noreturn]] void ThrowUnknown(const std::string& request, const RecordPage& page, bool with_key) {
  Throw(ErrorCode::kFailed, "nothing is remembered of the request '", request,
        "': the coordinator's recorder reaches back to ", TimeText(page.oldest_unix_ms), ", ",
        DurationText(page.now_unix_ms - page.oldest_unix_ms), " ago (", page.forgotten,
        " older records had to go)",
        with_key ? "; only requests of the API key's own tenant are shown" : "");
}

}  // namespace

int ExplainVerb(int argc, const char* const* argv) {
  ExplainOptions options;
  config::OptionTable table = MakeExplainTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  if (options.request.empty()) {
    Throw(
        ErrorCode::kInvalidArgument,
        "REQUEST_ID: expected the X-Request-Id of an answer, its own id (cmpl-...) or a stream's, "
        "found nothing");
  }
  rpc::Client client(
      {.address = options.coordinator.FindAddress(), .api_key = options.coordinator.ReadApiKey()});
  const RecordPage page = client.Records({.request = options.request});
  const std::vector<core::Story> stories = core::TellStories(page.records);
  if (stories.empty()) {
    ThrowUnknown(options.request, page, !options.coordinator.api_key_file.empty());
  }
  if (options.json) {
    std::cout << StoriesJson(options.request, stories);
    return 0;
  }
  for (size_t i = 0; i < stories.size(); ++i) {
    std::cout << (i == 0 ? "" : "\n") << StoryText(stories[i]);
  }
  return 0;
}

}  // namespace shoal::cli
