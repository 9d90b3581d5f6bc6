#include "coordinator/gateway/ladder/answer_cache.h"

#include <utility>

namespace shoal::gateway {

namespace {

// What the maps take for an entry, about.
constexpr size_t kEntryBytes = 512;

}  // namespace

size_t CachedAnswer::bytes() const {
  size_t bytes = kEntryBytes;
  for (const Choice& choice : choices) bytes += sizeof(Choice) + choice.text.size();
  return bytes;
}

const CachedAnswer* AnswerCache::Find(const std::string& tenant, const Digest& request,
                                      TimeNs now) {
  const Key key{tenant, request};
  const auto entry = entries_.find(key);
  if (entry == entries_.end()) return nullptr;
  if (entry->second.until <= now) {
    Erase(key);
    return nullptr;
  }
  Touch(key, entry->second);
  return &entry->second.answer;
}

void AnswerCache::Put(const std::string& tenant, const Digest& request, CachedAnswer answer,
                      TimeNs now) {
  const Key key{tenant, request};
  Erase(key);
  const auto bytes = static_cast<int64_t>(answer.bytes() + 3 * tenant.size());
  if (bytes > options_.tenant_bytes_max || bytes > options_.bytes_max) return;
  // Its share goes with its last entry.
  while (tenants_[tenant].bytes + bytes > options_.tenant_bytes_max) {
    Erase(Key(tenants_[tenant].order.begin()->second));
  }
  while (bytes_ + bytes > options_.bytes_max) Erase(Key(order_.begin()->second));
  Entry& entry = entries_[key];
  entry = {std::move(answer), bytes, now + options_.ttl_ms * kMillisecondNs, 0};
  bytes_ += bytes;
  tenants_[tenant].bytes += bytes;
  Touch(key, entry);
}

void AnswerCache::Touch(const Key& key, Entry& entry) {
  Order& own = tenants_[key.first].order;
  if (entry.used != 0) {
    order_.erase(entry.used);
    own.erase(entry.used);
  }
  entry.used = next_use_++;
  order_.emplace(entry.used, key);
  own.emplace(entry.used, key);
}

void AnswerCache::Erase(const Key& key) {
  const auto entry = entries_.find(key);
  if (entry == entries_.end()) return;
  const auto share = tenants_.find(key.first);
  bytes_ -= entry->second.bytes;
  share->second.bytes -= entry->second.bytes;
  order_.erase(entry->second.used);
  share->second.order.erase(entry->second.used);
  entries_.erase(entry);
  if (share->second.order.empty()) tenants_.erase(share);
}

}  // namespace shoal::gateway
