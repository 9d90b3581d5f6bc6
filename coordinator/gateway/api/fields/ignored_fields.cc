#include "coordinator/gateway/api/fields/ignored_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/api/fields/parameters.h"
#include "coordinator/gateway/http/http_message.h"
#include "transport/base/utf8.h"
#include "transport/config/options.h"

namespace shoal::gateway {
namespace {

// ", did you mean temperature?", or nothing. Of what is inside other fields there is no table.
std::string Suggest(const std::string& name) {
  if (name.find('.') != std::string::npos) return "";
  std::vector<std::string> known;
  for (const Parameter& parameter : Parameters()) {
    if (parameter.name == name) return " at this endpoint";
    known.emplace_back(parameter.name);
  }
  return config::Suggestion(name, known);
}

}  // namespace

void NoteIgnored(std::string path, std::vector<std::string>& ignored) {
  if (ignored.size() > kIgnoredMax) return;
  if (path.size() > kIgnoredBytesMax) path = ReplaceIllFormed(path.substr(0, kIgnoredBytesMax));
  if (ignored.size() == kIgnoredMax) path = "...";
  if (std::find(ignored.begin(), ignored.end(), path) == ignored.end()) ignored.push_back(path);
}

void NoteUnread(const JsonReader& reader, std::string_view prefix,
                std::vector<std::string>& ignored) {
  for (const std::string& name : reader.Unread()) NoteIgnored(Str(prefix, name), ignored);
}

std::string JoinNames(const std::vector<std::string>& names) {
  std::string joined;
  for (const std::string& name : names) {
    if (!IsPlainName(name)) continue;
    if (joined.size() + name.size() > 512) return joined + ", ...";
    joined += (joined.empty() ? "" : ", ") + name;
  }
  return joined;
}

std::vector<std::string> WarningsAbout(const std::vector<std::string>& ignored) {
  std::vector<std::string> warnings;
  for (const std::string& name : ignored) {
    warnings.push_back(
        Str("ignored ", nlohmann::json(name).dump(), ": there is no such field", Suggest(name)));
  }
  return warnings;
}

void RefuseIgnored(const std::vector<std::string>& ignored) {
  if (ignored.empty()) return;
  const std::string& name = ignored.front();
  throw ApiError(name,
                 Str("there is no field ", nlohmann::json(name).dump(),
                     " (GET /v1/parameters names all that there are)", Suggest(name)),
                 "unknown_parameter");
}

std::string IgnoredLog::Note(const std::vector<std::string>& names, TimeNs now) {
  if (names.empty()) return "";
  ++requests_;
  total_ += names.size();
  for (const std::string& name : names) {
    if (names_.size() < kNamesMax) names_.insert(name);
  }
  if (told_ && now - told_at_ < kPeriodNs) return "";
  told_ = true;
  told_at_ = now;
  const std::string line = Str("ignored fields that nobody here knows, of ", requests_,
                               " requests: ", JoinNames({names_.begin(), names_.end()}));
  names_.clear();
  requests_ = 0;
  return line;
}

}  // namespace shoal::gateway
