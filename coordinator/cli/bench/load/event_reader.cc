#include "coordinator/cli/bench/load/event_reader.h"

#include <nlohmann/json.hpp>

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLineBytesMax = 1 << 20;

}  // namespace

void EventReader::Add(std::string_view bytes, TimeNs now) {
  rest_ += bytes;
  size_t begin = 0;
  for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', begin)) {
    TakeLine(std::string_view(rest_).substr(begin, end - begin), now);
    begin = end + 1;
  }
  rest_.erase(0, begin);
  if (rest_.size() > kLineBytesMax) record_.failure = "a line of the answer is too long";
}

void EventReader::TakeLine(std::string_view line, TimeNs now) {
  constexpr std::string_view kData = "data: ";
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  while (line.ends_with('\r')) line.remove_suffix(1);
  if (line == "[DONE]") {
    done_ = true;
    return;
  }
  const Json event = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!event.is_object()) {
    record_.failure = "an event that is no JSON object";
  } else if (event.contains("error")) {
    const Json& error = event["error"];
    error_code_ = error.is_object() ? error.value("code", std::string("?")) : "?";
    record_.failure = "an error in the stream: " + error_code_;
  } else {
    TakeEvent(event, now);
  }
}

void EventReader::TakeEvent(const Json& event, TimeNs now) {
  const auto extra = event.find("x_shoal");
  if (extra != event.end() && extra->is_object() && extra->value("degraded", false)) {
    degraded_ = true;
  }
  const auto usage = event.find("usage");
  if (usage != event.end() && usage->is_object()) {
    record_.completion_tokens = usage->value("completion_tokens", int64_t{0});
  }
  const auto choices = event.find("choices");
  if (choices == event.end() || !choices->is_array() || choices->empty()) return;
  const Json& choice = choices->front();
  const bool has_text = choice.is_object() && !choice.value("text", std::string()).empty();
  if (has_text) record_.events.push_back(now);
}

}  // namespace shoal::cli
