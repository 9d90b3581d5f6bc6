#include "coordinator/core/record/flight_recorder.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

// Of a record's places in the deque and in both indexes.
constexpr size_t kOverheadBytes = sizeof(Record) + 128;

void Cut(std::string& text, size_t bytes_max) {
  if (text.size() <= bytes_max) return;
  constexpr std::string_view kCut = "...";
  size_t end = bytes_max - kCut.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
  text += kCut;
  text.shrink_to_fit();
}

size_t BytesOf(const Record& record) {
  size_t bytes = kOverheadBytes + 2 * record.request.size() + record.tenant.size() +
                 record.detail.size() + record.figures.size() * sizeof(RecordFigure);
  for (const RecordFigure& figure : record.figures) {
    bytes += figure.name.size() + figure.source.size();
  }
  return bytes;
}

void CutAll(Record& record) {
  Cut(record.request, FlightRecorder::kNameBytesMax);
  Cut(record.tenant, FlightRecorder::kNameBytesMax);
  Cut(record.detail, FlightRecorder::kDetailBytesMax);
  if (record.figures.size() > FlightRecorder::kFiguresMax) {
    record.figures.resize(FlightRecorder::kFiguresMax);
  }
  for (RecordFigure& figure : record.figures) {
    Cut(figure.name, FlightRecorder::kNameBytesMax);
    Cut(figure.source, FlightRecorder::kNameBytesMax);
  }
}

// 32 hex digits, as a StreamId is printed.
std::optional<StreamId> ParseStreamId(std::string_view text) {
  StreamId id;
  const auto parse = [](std::string_view digits, uint64_t& value) {
    const char* end = digits.data() + digits.size();
    return std::from_chars(digits.data(), end, value, 16).ptr == end;
  };
  if (text.size() != 32 || !parse(text.substr(0, 16), id.high) || !parse(text.substr(16), id.low)) {
    return std::nullopt;
  }
  return id;
}

// A tenant may know of its own requests, and of groups and the region, but for what is said of
// policy files: that may name other tenants.
bool MaySee(const std::string& tenant, const Record& record) {
  if (record.kind < RecordKind::kGroupReady) return record.tenant == tenant;
  return record.kind != RecordKind::kPolicyLoaded && record.kind != RecordKind::kPolicyRefused;
}

// What the streams of an answer have in common, of its id as its client knows it: "cmpl-" or
// "chatcmpl-" and the first 24 hex digits of its streams' ids. The rest is 0.
std::optional<StreamId> ParseAnswerId(std::string_view text) {
  for (const std::string_view kind : {"cmpl-", "chatcmpl-"}) {
    if (!text.starts_with(kind) || text.size() != kind.size() + 24) continue;
    return ParseStreamId(std::string(text.substr(kind.size())) + "00000000");
  }
  return std::nullopt;
}

template <typename Index, typename Key>
void ForgetIn(Index& index, const Key& key) {
  const auto entry = index.find(key);
  SHOAL_CHECK(entry != index.end(), "a record that is not in its index");
  entry->second.pop_front();
  if (entry->second.empty()) index.erase(entry);
}

}  // namespace

FlightRecorder::FlightRecorder(const Clock& clock, int64_t unix_ms_at_zero)
    : clock_(clock), unix_ms_at_zero_(unix_ms_at_zero) {}

void FlightRecorder::Note(Record record) {
  CutAll(record);
  record.number = next_number_++;
  record.time = clock_.now();
  record.unix_ms = unix_ms_at_zero_ + record.time / kMillisecondNs;
  ++counts_.kinds.at(static_cast<size_t>(record.kind));
  if (record.kind == RecordKind::kRejected) {
    SHOAL_CHECK(record.reason, "a rejection without a reason");
    ++counts_.rejected.at(static_cast<size_t>(*record.reason));
  }
  bytes_ += BytesOf(record);
  if (!record.request.empty()) by_request_[record.request].push_back(record.number);
  if (record.stream != StreamId{}) by_stream_[record.stream].push_back(record.number);
  records_.push_back(std::move(record));
  while (records_.size() > kRecordsMax || bytes_ > kBytesMax) Forget();
}

void FlightRecorder::Forget() {
  const Record& oldest = records_.front();
  if (!oldest.request.empty()) ForgetIn(by_request_, oldest.request);
  if (oldest.stream != StreamId{}) ForgetIn(by_stream_, oldest.stream);
  bytes_ -= BytesOf(oldest);
  records_.pop_front();
  ++forgotten_;
}

FlightRecorder::Numbers FlightRecorder::NumbersOf(const std::string& request) const {
  std::string name = request;
  Cut(name, kNameBytesMax);
  std::set<uint64_t> numbers;
  const auto add = [&](const auto& index, const auto& key) {
    const auto found = index.find(key);
    if (found != index.end()) numbers.insert(found->second.begin(), found->second.end());
  };
  add(by_request_, name);
  if (const std::optional<StreamId> stream = ParseStreamId(request)) add(by_stream_, *stream);
  if (const std::optional<StreamId> first = ParseAnswerId(request)) {
    const StreamId last{first->high, first->low | UINT32_MAX};
    for (auto stream = by_stream_.lower_bound(*first);
         stream != by_stream_.end() && stream->first <= last; ++stream) {
      numbers.insert(stream->second.begin(), stream->second.end());
      // What was refused before, and what another model did for it, has its request's name alone.
      add(by_request_, At(stream->second.front()).request);
    }
  }
  return {numbers.begin(), numbers.end()};
}

RecordPage FlightRecorder::Find(const RecordQuery& query) const {
  const TimeNs now = clock_.now();
  RecordPage page;
  page.now_unix_ms = unix_ms_at_zero_ + now / kMillisecondNs;
  page.oldest_unix_ms = records_.empty() ? page.now_unix_ms : records_.front().unix_ms;
  page.forgotten = forgotten_;
  // Divided rather than multiplied: since_ms is whatever a client says.
  const auto take = [&](const Record& record) {
    if (query.since_ms > 0 && (now - record.time) / kMillisecondNs > query.since_ms) return true;
    if (query.tenant && !MaySee(*query.tenant, record)) return true;
    page.more = page.records.size() == query.records_max;
    if (!page.more) page.records.push_back(record);
    return !page.more;
  };
  if (query.request.empty()) {
    const auto after = std::ranges::upper_bound(records_, query.after, {}, &Record::number);
    static_cast<void>(std::all_of(after, records_.end(), take));
    return page;
  }
  const Numbers numbers = NumbersOf(query.request);
  const auto after = std::ranges::upper_bound(numbers, query.after);
  static_cast<void>(
      std::all_of(after, numbers.end(), [&](uint64_t number) { return take(At(number)); }));
  return page;
}

}  // namespace shoal::core
