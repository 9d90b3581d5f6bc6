#pragma once

// Answers that were given before, for the very same request of the same tenant.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/gateway/answer/answer_piece.h"
#include "coordinator/gateway/resume/cursor.h"
#include "transport/base/clock.h"

namespace shoal::gateway {

struct CachedAnswer {
  struct Choice {
    std::string text{};
    FinishReason finish = FinishReason::kStop;
  };
  std::vector<Choice> choices{};
  Usage usage{};

  size_t bytes() const;  // That it counts as.
};

struct AnswerCacheOptions {
  int64_t bytes_max = 64 << 20;
  int64_t tenant_bytes_max = 16 << 20;
  int64_t ttl_ms = 3'600'000;

  bool operator==(const AnswerCacheOptions&) const = default;
};

// Whoever was asked for least recently goes first: of a tenant that is above its bound its own, and
// of all when the whole is. Threading: owned by the event loop.
class AnswerCache {
 public:
  explicit AnswerCache(const AnswerCacheOptions& options) : options_(options) {}

  // Null: there is none, or its time is over. Until the next call.
  const CachedAnswer* Find(const std::string& tenant, const Digest& request, TimeNs now);
  // One that is larger than a tenant's bound is not kept.
  void Put(const std::string& tenant, const Digest& request, CachedAnswer answer, TimeNs now);

  size_t size() const { return entries_.size(); }
  int64_t bytes() const { return bytes_; }

 private:
  using Key = std::pair<std::string, Digest>;
  using Order = std::map<uint64_t, Key>;  // By when it was last asked for.

  struct Entry {
    CachedAnswer answer;
    int64_t bytes = 0;
    TimeNs until = 0;
    uint64_t used = 0;
  };
  struct Share {
    int64_t bytes = 0;
    Order order;
  };

  void Touch(const Key& key, Entry& entry);
  void Erase(const Key& key);

  const AnswerCacheOptions options_;
  std::map<Key, Entry> entries_;
  Order order_;
  std::map<std::string, Share> tenants_;
  int64_t bytes_ = 0;
  uint64_t next_use_ = 1;
};

}  // namespace shoal::gateway
