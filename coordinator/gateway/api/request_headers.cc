#include "coordinator/gateway/api/request_headers.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "coordinator/gateway/api/api_error.h"
#include "transport/base/check.h"
#include "transport/base/utf8.h"

namespace shoal::gateway {
namespace {

[[noreturn]] void Refuse(std::string_view header, const std::string& expected,
                         const std::string& value) {
  throw ApiError(std::string(header), Str("the header ", header, " must be ", expected, ", not ",
                                          nlohmann::json(ReplaceIllFormed(value)).dump()));
}

int64_t ReadNumber(std::string_view header, const std::string& text, int64_t most) {
  int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && rest == end && number >= 1 && number <= most) return number;
  Refuse(header, Str("a whole number from 1 to ", most), text);
}

bool ReadSwitch(std::string_view header, const std::string& value) {
  if (value == "0" || value == "1") return value == "1";
  Refuse(header, "1 or 0", value);
}

bool IsVisible(char c) { return c > ' ' && c < 0x7F; }

// Readers of one header's value each.
using Reader = void (*)(std::string_view header, const std::string& value,
                        const rpc::Caller& caller, GenerationHeaders& headers);

void ReadClass(std::string_view header, const std::string& value, const rpc::Caller& caller,
               GenerationHeaders& headers) {
  const std::optional<ServiceClass> service_class = ParseServiceClass(value);
  if (!service_class) {
    Refuse(header, "critical_plus, critical, sheddable_plus or sheddable", value);
  }
  headers.terms.service_class = std::max(*service_class, caller.service_class);
}

void ReadDeadline(std::string_view header, const std::string& value, const rpc::Caller&,
                  GenerationHeaders& headers) {
  headers.terms.deadline_ms = ReadNumber(header, value, kDeadlineMsMax);
}

void ReadAttempt(std::string_view header, const std::string& value, const rpc::Caller&,
                 GenerationHeaders& headers) {
  headers.terms.attempt = static_cast<int32_t>(ReadNumber(header, value, kAttemptMax));
}

void ReadSession(std::string_view header, const std::string& value, const rpc::Caller&,
                 GenerationHeaders& headers) {
  if (value.empty() || value.size() > kSessionBytesMax || !std::ranges::all_of(value, IsVisible)) {
    Refuse(header, Str("1 to ", kSessionBytesMax, " visible ASCII characters"),
           value.substr(0, kSessionBytesMax));
  }
  headers.terms.session = value;
}

template <bool GenerationHeaders::*kField>
void ReadField(std::string_view header, const std::string& value, const rpc::Caller&,
               GenerationHeaders& headers) {
  headers.*kField = ReadSwitch(header, value);
}

void ReadCursor(std::string_view, const std::string& value, const rpc::Caller&,
                GenerationHeaders& headers) {
  headers.cursor = value;
}

struct HeaderRow {
  std::string_view name;
  Reader reader;  // Null: of all requests, not only of generations, and read before these.
  std::string_view note;
};

constexpr HeaderRow kHeaders[] = {
    {"Authorization", nullptr, "Bearer KEY, where keys are asked for; it says whose request it is"},
    {"X-Request-Id", nullptr,
     "1 to 128 letters, digits, '-', '_' and '.': what records call the request"},
    {"X-Shoal-Class", &ReadClass,
     "critical_plus, critical, sheddable_plus or sheddable; a better one than the tenant's own "
     "counts as that, and the answer's header of that name says which it was"},
    {"X-Shoal-Deadline-Ms", &ReadDeadline,
     "1 to 604800000, from the request's first byte on: what cannot be done by then is refused "
     "(deadline_unreachable), what is late ends (deadline_exceeded)"},
    {"X-Shoal-Attempt", &ReadAttempt,
     "1 to 1000: 2 for the first retry. Retries are refused first"},
    {"X-Shoal-Session", &ReadSession,
     "1 to 256 bytes: requests of one session go to the same group, if it is well"},
    {"X-Shoal-Resumable", &ReadField<&GenerationHeaders::resumable>,
     "1 or 0: whether a streamed answer can be gone on with"},
    {"Last-Event-ID", &ReadCursor,
     "the id of the last event that the client has of such an answer"},
    {"X-Shoal-Degrade", &ReadField<&GenerationHeaders::degrade>,
     "1 or 0: whether something lesser may answer when the model cannot; 1 if it is not there"},
    {"X-Shoal-Strict", &ReadField<&GenerationHeaders::strict>,
     "1 or 0: whether fields of the body that nobody here knows are refused"},
};

}  // namespace

const std::string* FindOnce(const HttpRequest& request, std::string_view name) {
  if (std::ranges::count(request.headers, name, &Headers::value_type::first) < 2) {
    return request.Find(name);
  }
  throw MakeApiError(400, "invalid_request_error", "duplicate_header",
                     Str("the header ", name, " comes twice: which one holds?"));
}

void CheckBodyForm(const HttpRequest& request) {
  const std::string* const type = FindOnce(request, "content-type");
  const std::string* const encoding = FindOnce(request, "content-encoding");
  if (encoding != nullptr && LowerTrimmed(*encoding) != "identity") {
    throw MakeApiError(415, "invalid_request_error", "unsupported_encoding",
                       Str("the body's Content-Encoding is ", nlohmann::json(*encoding).dump(),
                           ": only identity is read here, send the JSON as it is"));
  }
  if (type != nullptr && IsJsonType(*type)) return;
  throw MakeApiError(
      415, "invalid_request_error", "unsupported_media_type",
      Str("the body's Content-Type is ", type == nullptr ? "missing" : nlohmann::json(*type).dump(),
          ": send the header Content-Type: application/json"));
}

std::string_view ShownKey(const HttpRequest& request) {
  constexpr size_t kSchemeBytes = 7;
  const std::string* const given = request.Find("authorization");
  if (given == nullptr) return "";
  std::string scheme = given->substr(0, kSchemeBytes);
  std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return scheme == "bearer " ? std::string_view(*given).substr(kSchemeBytes) : "";
}

GenerationHeaders ReadHeaders(const HttpRequest& request, const rpc::Caller& caller,
                              const std::string& request_id) {
  GenerationHeaders headers{.terms = {.name = request_id, .tenant = caller.tenant}};
  for (const HeaderRow& row : kHeaders) {
    if (row.reader == nullptr) continue;
    const std::string* const value = FindOnce(request, LowerTrimmed(row.name));
    if (value != nullptr) row.reader(row.name, *value, caller, headers);
  }
  return headers;
}

void WriteHeaders(JsonWriter& json) {
  json.BeginArray();
  for (const HeaderRow& row : kHeaders) {
    json.BeginObject().Key("name").String(row.name).Key("note").String(row.note).EndObject();
  }
  json.EndArray();
}

}  // namespace shoal::gateway
