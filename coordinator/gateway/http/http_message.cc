#include "coordinator/gateway/http/http_message.h"

// Look-ups in requests, and the words and forms of HTTP.

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

namespace shoal::gateway {

const std::string* HttpRequest::Find(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 410:
      return "Gone";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

std::string HttpDate(int64_t unix_seconds) {
  constexpr std::array<const char*, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const time_t seconds = unix_seconds;
  std::tm date{};
  gmtime_r(&seconds, &date);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                kDays[static_cast<size_t>(date.tm_wday)], date.tm_mday,
                kMonths[static_cast<size_t>(date.tm_mon)], date.tm_year + 1900, date.tm_hour,
                date.tm_min, date.tm_sec);
  return text.data();
}

std::string LowerTrimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const size_t begin = std::min(text.find_first_not_of(kBlank), text.size());
  std::string lower(text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin));
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

bool IsJsonType(std::string_view content_type) {
  constexpr std::string_view kTree = "application/";
  constexpr std::string_view kSuffix = "+json";
  const std::string type = LowerTrimmed(content_type.substr(0, content_type.find(';')));
  return type == "application/json" || (type.starts_with(kTree) && type.ends_with(kSuffix) &&
                                        type.size() > kTree.size() + kSuffix.size());
}

bool IsPlainName(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  });
}

}  // namespace shoal::gateway
