#include "coordinator/gateway/json/records_json.h"

#include <charconv>
#include <cmath>
#include <iterator>
#include <string_view>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

void WriteText(JsonWriter& json, std::string_view key, std::string_view text) {
  json.Key(key);
  if (text.empty()) {
    json.Null();
  } else {
    json.String(text);
  }
}

void WriteRecord(JsonWriter& json, const Record& record) {
  json.BeginObject().Key("number").Int(static_cast<int64_t>(record.number));
  json.Key("unix_ms").Int(record.unix_ms).Key("kind").String(ToString(record.kind));
  WriteText(json, "stream", record.stream == StreamId{} ? "" : Str(record.stream));
  WriteText(json, "request", record.request);
  WriteText(json, "tenant", record.tenant);
  WriteText(json, "class", record.service_class ? ToString(*record.service_class) : "");
  json.Key("group");
  if (record.group) {
    json.Int(static_cast<int64_t>(*record.group));
  } else {
    json.Null();
  }
  WriteText(json, "reason", record.reason ? ToString(*record.reason) : "");
  json.Key("detail").String(record.detail).Key("figures");
  WriteFigures(json, record.figures);
  json.EndObject();
}

}  // namespace

std::string FormatNumber(double value) {
  if (!std::isfinite(value)) return "null";
  char digits[32];
  return {digits, std::to_chars(digits, std::end(digits), value).ptr};
}

void WriteFigures(JsonWriter& json, const std::vector<RecordFigure>& figures) {
  json.BeginArray();
  for (const RecordFigure& figure : figures) {
    json.BeginObject().Key("name").String(figure.name);
    json.Key("value").Raw(FormatNumber(figure.value));
    json.Key("source").String(figure.source).EndObject();
  }
  json.EndArray();
}

std::string RecordsJson(const RecordPage& page) {
  JsonWriter json;
  json.BeginObject().Key("now_unix_ms").Int(page.now_unix_ms);
  json.Key("oldest_unix_ms").Int(page.oldest_unix_ms);
  json.Key("forgotten").Int(static_cast<int64_t>(page.forgotten)).Key("more").Bool(page.more);
  json.Key("records").BeginArray();
  for (const Record& record : page.records) WriteRecord(json, record);
  json.EndArray().EndObject();
  return json.Take();
}

}  // namespace shoal::gateway
