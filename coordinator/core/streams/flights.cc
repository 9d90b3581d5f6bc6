#include "coordinator/core/streams/flights.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {
namespace {

uint64_t HashOf(const Request& request, const ModelKey& key) {
  const std::vector<int32_t>& prompt = request.prompt;
  const std::string whose = Str(request.terms.tenant, '\n', key.name, '\n', key.numerics_id);
  const XXH64_hash_t seed = XXH3_64bits(whose.data(), whose.size());
  return XXH3_64bits_withSeed(prompt.data(), prompt.size() * sizeof(int32_t), seed);
}

// With all that decides about the answer's bits, and about who is served first.
bool IsSame(const Request& asked, ServiceClass service_class, const Stream& stream) {
  if (asked.terms.tenant != stream.request.terms.tenant ||
      service_class != stream.grant.service_class || asked.prompt != stream.request.prompt ||
      asked.params.tokens_max != stream.tokens_asked) {
    return false;
  }
  // As the stream was granted its parameters.
  GenerationParams params = asked.params;
  const GenerationParams& granted = stream.request.params;
  params.tokens_max = granted.tokens_max;
  params.sampling.min_tokens = std::min(params.sampling.min_tokens, granted.tokens_max);
  if (params.sampling.temperature == 0) {  // An arg max: no noise is drawn.
    params.sampling.seed = granted.sampling.seed;
    params.sampling.choice = granted.sampling.choice;
  }
  return params == granted;
}

// Whether its group keeps it for long enough.
bool LivesUntil(const Stream& stream, std::optional<TimeNs> deadline) {
  if (!stream.group || !stream.group_deadline) return true;
  return deadline && *deadline <= *stream.group_deadline;
}

}  // namespace

void Flights::Add(StreamId id, const Stream& stream) {
  const uint64_t hash = HashOf(stream.request, stream.key);
  const std::string& tenant = stream.request.terms.tenant;
  flights_[id] = {hash, tenant, {{id, {stream.request.terms, std::nullopt, stream.deadline}}}};
  streams_[id] = id;
  if (stream.deadline) deadlines_.emplace(*stream.deadline, id);
  by_hash_.emplace(hash, id);
  ++tenants_[tenant];
}

std::optional<StreamId> Flights::FindSame(const Request& asked, const ModelKey& key,
                                          ServiceClass service_class,
                                          std::optional<TimeNs> deadline,
                                          const StreamMap& streams) const {
  if (!HasTenant(asked.terms.tenant)) return std::nullopt;
  const auto [begin, end] = by_hash_.equal_range(HashOf(asked, key));
  for (auto entry = begin; entry != end; ++entry) {
    const Stream& stream = streams.at(entry->second);
    if (stream.key == key && flights_.at(entry->second).sharers.size() < kSharersMax &&
        LivesUntil(stream, deadline) && IsSame(asked, service_class, stream)) {
      return entry->second;
    }
  }
  return std::nullopt;
}

void Flights::Join(StreamId stream, StreamId sharer, Sharer who) {
  if (who.deadline) deadlines_.emplace(*who.deadline, sharer);
  const bool added = flights_.at(stream).sharers.emplace(sharer, std::move(who)).second;
  SHOAL_CHECK(added && !streams_.contains(sharer), "two share as ", sharer);
  streams_[sharer] = stream;
}

std::optional<Grant> Flights::Leave(StreamId sharer) {
  SharerMap& sharers = flights_.at(streams_.at(sharer)).sharers;
  SHOAL_CHECK(sharers.size() > 1, "the last sharer ", sharer, " leaves its stream alone");
  const Sharer left = std::move(sharers.extract(sharer).mapped());
  streams_.erase(sharer);
  if (left.deadline) deadlines_.erase({*left.deadline, sharer});
  if (left.grant) return left.grant;
  // The stream's own stands for the next one from now on.
  return std::exchange(sharers.begin()->second.grant, std::nullopt);
}

SharerMap Flights::Remove(StreamId stream) {
  auto node = flights_.extract(stream);
  if (node.empty()) return {};
  Flight& flight = node.mapped();
  for (const auto& [sharer, who] : flight.sharers) {
    streams_.erase(sharer);
    if (who.deadline) deadlines_.erase({*who.deadline, sharer});
  }
  const auto [begin, end] = by_hash_.equal_range(flight.hash);
  by_hash_.erase(
      std::find_if(begin, end, [&](const auto& entry) { return entry.second == stream; }));
  const auto tenant = tenants_.find(flight.tenant);
  if (--tenant->second == 0) tenants_.erase(tenant);
  return std::move(flight.sharers);
}

const SharerMap* Flights::SharersOf(StreamId stream) const {
  const auto flight = flights_.find(stream);
  return flight == flights_.end() ? nullptr : &flight->second.sharers;
}

std::optional<StreamId> Flights::StreamOf(StreamId sharer) const {
  const auto stream = streams_.find(sharer);
  return stream == streams_.end() ? std::nullopt : std::optional(stream->second);
}

const Sharer* Flights::Find(StreamId id) const {
  const SharerMap* sharers = SharersOf(StreamOf(id).value_or(id));
  if (sharers == nullptr) return nullptr;
  const auto own = sharers->find(id);
  if (own != sharers->end()) return &own->second;
  return &std::ranges::find_if(*sharers, [](const auto& entry) {
            return !entry.second.grant;
          })->second;
}

std::optional<TimeNs> Flights::DeadlineOf(StreamId stream) const {
  TimeNs latest = 0;
  for (const auto& [id, sharer] : flights_.at(stream).sharers) {
    if (!sharer.deadline) return std::nullopt;
    latest = std::max(latest, *sharer.deadline);
  }
  return latest;
}

std::optional<TimeNs> Flights::NextDeadline() const {
  return deadlines_.empty() ? std::nullopt : std::optional(deadlines_.begin()->first);
}

std::vector<StreamId> Flights::Expired(TimeNs now) const {
  std::map<StreamId, std::vector<StreamId>> late;  // By stream.
  for (const auto& [deadline, sharer] : deadlines_) {
    if (deadline > now) break;
    late[streams_.at(sharer)].push_back(sharer);
  }
  std::vector<StreamId> expired;
  for (const auto& [stream, sharers] : late) {
    // Where all are late the stream itself ends.
    if (sharers.size() == flights_.at(stream).sharers.size()) continue;
    expired.insert(expired.end(), sharers.begin(), sharers.end());
  }
  return expired;
}

std::string Flights::FindFault(const StreamMap& streams) const {
  size_t sharers = 0;
  size_t deadlines = 0;
  for (const auto& [id, flight] : flights_) {
    const auto stream = streams.find(id);
    if (stream == streams.end()) return Str("stream ", id, " is shared and has ended");
    if (stream->second.detached_since) return Str("stream ", id, " is shared and detached");
    const auto paid = std::ranges::count_if(
        flight.sharers, [](const auto& entry) { return !entry.second.grant.has_value(); });
    if (paid != 1) return Str("the grant of stream ", id, " stands for ", paid, " of its sharers");
    if (flight.sharers.size() > kSharersMax) {
      return Str(flight.sharers.size(), " share stream ", id, ", at most ", kSharersMax, " may");
    }
    if (stream->second.deadline != DeadlineOf(id)) {
      return Str("stream ", id, " does not end with the last of its sharers");
    }
    for (const auto& [sharer, who] : flight.sharers) {
      if (StreamOf(sharer) != id) return Str("sharer ", sharer, " does not lead to stream ", id);
      if (sharer != id && streams.contains(sharer))
        return Str("stream ", sharer, " shares another");
      if (!who.deadline) continue;
      ++deadlines;
      if (!deadlines_.contains({*who.deadline, sharer})) {
        return Str("the deadline of sharer ", sharer, " is not among those that are watched");
      }
    }
    sharers += flight.sharers.size();
  }
  if (deadlines != deadlines_.size()) {
    return Str(deadlines_.size(), " deadlines of sharers are watched, ", deadlines, " have one");
  }
  if (sharers == streams_.size() && flights_.size() == by_hash_.size()) return "";
  return Str(streams_.size(), " sharers of ", sharers, " and ", by_hash_.size(), " hashes of ",
             flights_.size(), " flights are known");
}

}  // namespace shoal::core
