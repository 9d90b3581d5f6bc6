#pragma once

// Requests that ask for the same, computed once: "single flight".

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "coordinator/core/streams/streams.h"
#include "coordinator/core/tenants/tenants.h"
#include "transport/base/clock.h"
#include "transport/base/generation/stream_id.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::core {

// Those who get one stream's answer; the next one has it computed for itself.
constexpr size_t kSharersMax = 1'024;
// What one who joins is charged: it is told what is computed anyway.
constexpr int64_t kSharerTokens = 1;
// A group keeps a stream that may be shared for so much longer than its deadline, for those who
// join a little later; the region ends each of them in time.
constexpr TimeNs kShareSlackNs = kSecondNs;

// One of those who get a stream's answer. Its id is as good as a stream's to whoever listens.
struct Sharer {
  RequestTerms terms{};
  std::optional<Grant> grant{};      // None: the stream's own grant stands for it.
  std::optional<TimeNs> deadline{};  // When it ends, whatever becomes of the others.
};
using SharerMap = std::map<StreamId, Sharer>;

// A flight is a stream that may be shared, and its sharers, of one tenant and class. It has at
// least one, and the stream's own grant stands for exactly one of them. The stream's own client is
// one of them until it leaves. Threading: none; owned by Region.
class Flights {
 public:
  // The stream may be shared from now on.
  void Add(StreamId id, const Stream& stream);
  // The stream that computes just what is asked for, and will live as long as is wanted. `asked` is
  // of that key, class and deadline. Cost: a hash of the prompt, and a comparison with what is
  // found.
  std::optional<StreamId> FindSame(const Request& asked, const ModelKey& key,
                                   ServiceClass service_class, std::optional<TimeNs> deadline,
                                   const StreamMap& streams) const;
  void Join(StreamId stream, StreamId sharer, Sharer who);
  // One of several leaves. Result: a grant that is not needed any more.
  std::optional<Grant> Leave(StreamId sharer);
  // The stream has ended. Result: its sharers; none if it was no flight.
  SharerMap Remove(StreamId stream);

  // Null if it is no flight.
  const SharerMap* SharersOf(StreamId stream) const;
  // Calls `visit` with each of those who are told what comes of the stream: its sharers, or it
  // alone. It must not change them.
  template <typename Visit>
  void ForEachReader(StreamId stream, Visit&& visit) const {
    const SharerMap* sharers = SharersOf(stream);
    if (sharers == nullptr) return visit(stream);
    for (const auto& [sharer, who] : *sharers) visit(sharer);
  }
  // None if it shares nothing.
  std::optional<StreamId> StreamOf(StreamId sharer) const;
  // What the sharer of that id asked, or for a stream whose own client has left, one of the others.
  // Null if it is neither.
  const Sharer* Find(StreamId id) const;
  // When the last of its sharers ends; none if one of them has no deadline.
  std::optional<TimeNs> DeadlineOf(StreamId stream) const;
  // Of the first sharer that ends; none if none has one.
  std::optional<TimeNs> NextDeadline() const;
  // Sharers that are late while another one of the same stream is not. Cost: those that are late.
  std::vector<StreamId> Expired(TimeNs now) const;
  bool HasTenant(const std::string& tenant) const { return tenants_.contains(tenant); }

  // What is wrong in here; empty if nothing.
  std::string FindFault(const StreamMap& streams) const;

 private:
  struct Flight {
    uint64_t hash = 0;
    std::string tenant{};
    SharerMap sharers{};
  };

  std::map<StreamId, Flight> flights_;                   // By stream.
  std::map<StreamId, StreamId> streams_;                 // By sharer.
  std::unordered_multimap<uint64_t, StreamId> by_hash_;  // Streams.
  std::map<std::string, size_t> tenants_;                // Flights of each; none is 0.
  DeadlineSet deadlines_;                                // Of the sharers that have one.
};

}  // namespace shoal::core
