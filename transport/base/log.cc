#include "transport/base/log.h"

#include <glog/logging.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "transport/base/error.h"

namespace shoal {
namespace {

void AppendEscaped(const char* text, size_t size, std::string& out) {
  for (size_t i = 0; i < size; ++i) {
    const unsigned char c = text[i];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", c);
      out += escape;
    } else {
      out += static_cast<char>(c);
    }
  }
}

// Writes each record to stderr as {"time","level","file","line","message"}.
class JsonSink : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char* /*full_filename*/, const char* base_filename,
            int line, const google::LogMessageTime& time, const char* message,
            size_t message_size) override {
    char head[160];
    std::snprintf(head, sizeof(head),
                  "{\"time\":%.6f,\"level\":\"%s\",\"file\":\"%s\",\"line\":%d,\"message\":\"",
                  static_cast<double>(time.timestamp()) + time.usec() * 1e-6,
                  google::GetLogSeverityName(severity), base_filename, line);
    std::string out = head;
    AppendEscaped(message, message_size, out);
    out += "\"}\n";
    const std::lock_guard lock(mutex_);
    std::fwrite(out.data(), 1, out.size(), stderr);
  }

 private:
  std::mutex mutex_;  // Lines of several threads do not mix.
};

}  // namespace

LogOptions ParseLogOptions(std::string_view text) {
  LogOptions options;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    if (word == "json") {
      options.json = true;
    } else if (word == "debug") {
      options.level = 0;
      options.verbose = true;
    } else if (word == "info") {
      options.level = 0;
    } else if (word == "warn") {
      options.level = 1;
    } else if (word == "error") {
      options.level = 2;
    } else {
      Throw(ErrorCode::kInvalidArgument, "SHOAL_LOG: '", word,
            "' is none of debug, info, warn, error, json");
    }
  }
  return options;
}

void StartLogging(const char* program) {
  const char* text = std::getenv("SHOAL_LOG");
  const LogOptions options = ParseLogOptions(text == nullptr ? "" : text);
  FLAGS_minloglevel = options.level;
  FLAGS_v = options.verbose ? 1 : 0;
  if (options.json) {
    // The sink replaces glog's own text; it lives until the process ends, as glog requires.
    static JsonSink sink;
    FLAGS_logtostderr = false;
    FLAGS_alsologtostderr = false;
    FLAGS_stderrthreshold = google::NUM_SEVERITIES;
    google::InitGoogleLogging(program);
    for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) {
      google::SetLogDestination(severity, "");
    }
    google::AddLogSink(&sink);
  } else {
    FLAGS_logtostderr = true;
    google::InitGoogleLogging(program);
  }
}

}  // namespace shoal
