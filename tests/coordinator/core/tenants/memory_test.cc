// Ten thousand tenants that all have something waiting: what they cost in memory.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "coordinator/core/queue/fair_queue.h"
#include "coordinator/core/tenants/tenants.h"
#include "transport/base/check.h"

namespace {

constexpr size_t kHeader = alignof(std::max_align_t);
std::atomic<int64_t> allocated{0};

}  // namespace

// Every allocation of this program has its size before it, so that all that live can be counted.
void* operator new(size_t size) {
  auto* block = static_cast<unsigned char*>(std::malloc(size + kHeader));
  if (block == nullptr) throw std::bad_alloc();
  *reinterpret_cast<size_t*>(block) = size;
  allocated += static_cast<int64_t>(size);
  return block + kHeader;
}

void operator delete(void* pointer) noexcept {
  if (pointer == nullptr) return;
  auto* block = static_cast<unsigned char*>(pointer) - kHeader;
  allocated -= static_cast<int64_t>(*reinterpret_cast<size_t*>(block));
  std::free(block);
}

void operator delete(void* pointer, size_t) noexcept { operator delete(pointer); }

namespace shoal::core {
namespace {

TEST(TenantsMemory, IsLessThanFourKibibytesEach) {
  constexpr int64_t kTenants = 10'000;
  const int64_t before = allocated;
  auto policy = std::make_shared<TenantsPolicy>();
  for (int64_t i = 0; i < kTenants; ++i) {
    policy->tenants.push_back({.name = Str("a tenant with a long name ", i),
                               .keys = {Str("sk-an-api-key-of-its-own-of-some-length-", i)},
                               .tokens_per_second = 100,
                               .floor_share = 0.00001});
  }
  Tenants tenants(policy, true);
  FairQueue queue;
  for (int64_t i = 0; i < kTenants; ++i) {
    const TenantPolicy& tenant = policy->tenants[static_cast<size_t>(i)];
    const auto grant = std::get<Grant>(tenants.Charge({.tenant = tenant.name}, 20, 0));
    queue.Add({.arrival = static_cast<uint64_t>(i),
               .tenant = grant.tenant,
               .floor_share = grant.floor_share,
               .tokens = 20});
  }
  const int64_t each = (allocated - before) / kTenants;
  EXPECT_LT(each, 4'096 - 512) << "besides what malloc adds";
  EXPECT_GT(each, 200) << "they are counted";
  RecordProperty("bytes", std::to_string(each));
}

}  // namespace
}  // namespace shoal::core
