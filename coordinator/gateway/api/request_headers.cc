#include "coordinator/gateway/api/request_headers.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>

#include "coordinator/gateway/api/api_error.h"
#include "transport/base/check.h"
#include "transport/base/utf8.h"

namespace shoal::gateway {
namespace {

struct HeaderNote {
  std::string_view name;
  std::string_view note;
};

constexpr HeaderNote kHeaderNotes[] = {
    {"Authorization", "Bearer KEY, where keys are asked for; it says whose request it is"},
    {"X-Request-Id", "1 to 128 letters, digits, '-', '_' and '.': what records call the request"},
    {"X-Shoal-Class",
     "critical_plus, critical, sheddable_plus or sheddable; a better one than the tenant's own "
     "counts as that, and the answer's header of that name says which it was"},
    {"X-Shoal-Deadline-Ms",
     "1 to 604800000, from the request's coming on: what cannot be done by then is refused "
     "(deadline_unreachable), what is late ends (deadline_exceeded)"},
    {"X-Shoal-Attempt", "1 to 1000: 2 for the first retry. Retries are refused first"},
    {"X-Shoal-Session",
     "1 to 256 bytes: requests of one session go to the same group, if it is "
     "well"},
    {"X-Shoal-Resumable", "1 or 0: whether a streamed answer can be gone on with"},
    {"Last-Event-ID", "the id of the last event that the client has of such an answer"},
    {"X-Shoal-Strict", "1: fields of the body that nobody here knows are refused"},
};

[[noreturn]] void Refuse(std::string_view header, const std::string& expected,
                         const std::string& value) {
  throw ApiError(std::string(header), Str("the header ", header, " must be ", expected, ", not ",
                                          nlohmann::json(ReplaceIllFormed(value)).dump()));
}

int64_t ReadNumber(const HttpRequest& request, std::string_view header, std::string_view name,
                   int64_t most, int64_t absent) {
  const std::string* const text = FindOnce(request, name);
  if (text == nullptr) return absent;
  int64_t number = 0;
  const char* const end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, number);
  if (error == std::errc() && rest == end && number >= 1 && number <= most) return number;
  Refuse(header, Str("a whole number from 1 to ", most), *text);
}

bool IsVisible(char c) { return c > ' ' && c < 0x7F; }

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

bool ReadSwitch(const HttpRequest& request, std::string_view name, bool missing) {
  const std::string* const value = FindOnce(request, LowerTrimmed(name));
  if (value == nullptr) return missing;
  if (*value == "0" || *value == "1") return *value == "1";
  throw MakeApiError(400, "invalid_request_error", "invalid_value",
                     Str("the header ", name, " must be 1 or 0, not ",
                         nlohmann::json(ReplaceIllFormed(*value)).dump()));
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

RequestTerms ReadTerms(const HttpRequest& request, const rpc::Caller& caller,
                       const std::string& request_id) {
  RequestTerms terms{.name = request_id, .tenant = caller.tenant};
  if (const std::string* const name = FindOnce(request, "x-shoal-class")) {
    terms.service_class = ParseServiceClass(*name);
    if (!terms.service_class) {
      Refuse("X-Shoal-Class", "critical_plus, critical, sheddable_plus or sheddable", *name);
    }
    terms.service_class = std::max(*terms.service_class, caller.service_class);
  }
  terms.deadline_ms =
      ReadNumber(request, "X-Shoal-Deadline-Ms", "x-shoal-deadline-ms", kDeadlineMsMax, 0);
  terms.attempt = static_cast<int32_t>(
      ReadNumber(request, "X-Shoal-Attempt", "x-shoal-attempt", kAttemptMax, 1));
  if (const std::string* const session = FindOnce(request, "x-shoal-session")) {
    terms.session = *session;
    if (session->empty() || session->size() > kSessionBytesMax ||
        !std::ranges::all_of(*session, IsVisible)) {
      Refuse("X-Shoal-Session", Str("1 to ", kSessionBytesMax, " visible ASCII characters"),
             session->substr(0, kSessionBytesMax));
    }
  }
  return terms;
}

void TakeTime(RequestTerms& terms, TimeNs passed) {
  if (terms.deadline_ms == 0) return;
  const int64_t passed_ms = passed / kMillisecondNs;
  if (passed_ms >= terms.deadline_ms) {
    throw FromStreamError(
        MakeStreamError(BusyReason::kDeadlineUnreachable,
                        Str("its deadline of ", terms.deadline_ms,
                            " ms was over when it had been read, after ", passed_ms, " ms")));
  }
  terms.deadline_ms -= passed_ms;
}

void WriteHeaders(JsonWriter& json) {
  json.BeginArray();
  for (const HeaderNote& header : kHeaderNotes) {
    json.BeginObject().Key("name").String(header.name).Key("note").String(header.note).EndObject();
  }
  json.EndArray();
}

}  // namespace shoal::gateway
