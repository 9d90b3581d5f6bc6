// What a coordinator remembers, between its structs and the messages that carry them.

#include <cstddef>

#include "transport/base/error.h"
#include "transport/rpc/convert/convert.h"

namespace shoal::rpc {
namespace {

void WriteFigure(const RecordFigure& figure, wire::Record::Figure::Builder to) {
  to.setName(ToText(figure.name));
  to.setValue(figure.value);
  to.setSource(ToText(figure.source));
}

RecordFigure ReadFigure(wire::Record::Figure::Reader from) {
  return {.name = ToString(from.getName()),
          .value = from.getValue(),
          .source = ToString(from.getSource())};
}

// What is named there, as `parse` knows it; none if nothing is.
template <typename Parse>
auto ReadNamed(::capnp::Text::Reader text, std::string_view what, Parse&& parse)
    -> decltype(parse(std::string_view())) {
  const std::string name = ToString(text);
  if (name.empty()) return std::nullopt;
  const auto value = parse(name);
  if (!value) {
    Throw(ErrorCode::kInvalidArgument, "a record of the coordinator has the ", what, " '", name,
          "', which this build does not know: use the coordinator's own release of shoal");
  }
  return value;
}

}  // namespace

void Write(const Record& record, wire::Record::Builder to) {
  to.setNumber(record.number);
  to.setTimeNs(record.time);
  to.setUnixMs(record.unix_ms);
  to.setKind(std::string(ToString(record.kind)));
  to.setStreamHigh(record.stream.high);
  to.setStreamLow(record.stream.low);
  to.setRequest(ToText(record.request));
  to.setTenant(ToText(record.tenant));
  if (record.service_class) to.setServiceClass(std::string(ToString(*record.service_class)));
  if (record.group) to.setGroup(static_cast<int64_t>(*record.group));
  if (record.reason) to.setReason(std::string(ToString(*record.reason)));
  to.setDetail(ToText(record.detail));
  auto figures = to.initFigures(static_cast<unsigned>(record.figures.size()));
  for (unsigned i = 0; i < record.figures.size(); ++i) WriteFigure(record.figures[i], figures[i]);
}

Record Read(wire::Record::Reader from) {
  Record record;
  record.number = from.getNumber();
  record.time = from.getTimeNs();
  record.unix_ms = from.getUnixMs();
  const auto kind = ReadNamed(from.getKind(), "kind", ParseRecordKind);
  if (!kind) Throw(ErrorCode::kInvalidArgument, "a record of the coordinator has no kind");
  record.kind = *kind;
  record.stream = {from.getStreamHigh(), from.getStreamLow()};
  record.request = ToString(from.getRequest());
  record.tenant = ToString(from.getTenant());
  record.service_class = ReadNamed(from.getServiceClass(), "class", ParseServiceClass);
  if (from.getGroup() >= 0) record.group = static_cast<uint64_t>(from.getGroup());
  record.reason = ReadNamed(from.getReason(), "reason", ParseBusyReason);
  record.detail = ToString(from.getDetail());
  for (const auto figure : from.getFigures()) record.figures.push_back(ReadFigure(figure));
  return record;
}

void Write(const RecordPage& page, wire::RecordPage::Builder to) {
  auto records = to.initRecords(static_cast<unsigned>(page.records.size()));
  for (unsigned i = 0; i < page.records.size(); ++i) Write(page.records[i], records[i]);
  to.setMore(page.more);
  to.setNowUnixMs(page.now_unix_ms);
  to.setOldestUnixMs(page.oldest_unix_ms);
  to.setForgotten(page.forgotten);
}

RecordPage Read(wire::RecordPage::Reader from) {
  RecordPage page;
  for (const auto record : from.getRecords()) page.records.push_back(Read(record));
  page.more = from.getMore();
  page.now_unix_ms = from.getNowUnixMs();
  page.oldest_unix_ms = from.getOldestUnixMs();
  page.forgotten = from.getForgotten();
  return page;
}

}  // namespace shoal::rpc
