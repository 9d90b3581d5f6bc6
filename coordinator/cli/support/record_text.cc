#include "coordinator/cli/support/record_text.h"

#include <cmath>
#include <cstdio>
#include <ctime>

#include "transport/base/check.h"
#include "transport/base/error.h"
#include "transport/config/duration.h"

namespace shoal::cli {
namespace {

constexpr int64_t kLongestMs = 1'000LL * 3'600'000;

}  // namespace

std::string TimeText(int64_t unix_ms) {
  const auto seconds = static_cast<std::time_t>(unix_ms / 1'000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  char millis[16];
  std::snprintf(millis, sizeof millis, ".%03dZ", static_cast<int>(unix_ms % 1'000));
  return std::string(text, size) + millis;
}

std::string DurationText(int64_t ms) {
  if (ms < 1'000) return Str(ms, " ms");
  char text[32];
  const double seconds = static_cast<double>(ms) / 1'000;
  if (seconds < 120) {
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  } else if (seconds < 2 * 3'600) {
    std::snprintf(text, sizeof text, "%.1f min", seconds / 60);
  } else {
    std::snprintf(text, sizeof text, "%.1f h", seconds / 3'600);
  }
  return text;
}

int64_t ParseDurationMs(const std::string& flag, const std::string& text) {
  const auto ms = config::ParseDurationMs(text);
  if (ms && *ms >= 1 && *ms <= kLongestMs) return *ms;
  Throw(ErrorCode::kInvalidArgument, flag,
        ": expected a duration from 1ms to 1000h, such as 500ms, 30s, 10m or 2h, found '", text,
        "'");
}

std::string FigureText(double value) {
  char text[32];
  const double magnitude = std::abs(value);
  if (value == std::floor(value) && magnitude < 1e15) {
    std::snprintf(text, sizeof text, "%.0f", value);
  } else if (magnitude >= 100) {
    std::snprintf(text, sizeof text, "%.1f", value);
  } else {
    std::snprintf(text, sizeof text, "%.3g", value);
  }
  return text;
}

std::string FiguresText(const std::vector<RecordFigure>& figures) {
  std::string text;
  for (const RecordFigure& figure : figures) {
    text += Str(text.empty() ? "" : ", ", figure.name, " ", FigureText(figure.value), " (",
                figure.source, ")");
  }
  return text;
}

}  // namespace shoal::cli
