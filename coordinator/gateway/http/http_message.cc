#include "coordinator/gateway/http/http_message.h"

// Look-ups in requests, and the words and forms of HTTP.

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <iterator>

namespace shoal::gateway {

const std::string* HttpRequest::Find(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return &value;
  }
  return nullptr;
}

namespace {

struct Phrase {
  int status;
  std::string_view text;
};

// RFC 9110 section 15, and RFC 6585 for 429 and 431.
constexpr Phrase kPhrases[] = {
    {100, "Continue"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

}  // namespace

std::string_view ReasonPhrase(int status) {
  const auto* const found = std::ranges::find(kPhrases, status, &Phrase::status);
  return found == std::end(kPhrases) ? std::string_view() : found->text;
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
