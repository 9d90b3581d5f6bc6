#include "parallel/comm/shm/shm_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/base/error.h"

// Everything in the segment is an atomic or bytes that an atomic publishes; zeroed memory is the
// valid first state of all of it, so nobody has to construct it before others look.

namespace shoal::comm {
namespace {

constexpr uint64_t kMagic = 0x314d48534c414f48;  // "HOALSHM1"
constexpr int64_t kHeaderBytes = 4096;
constexpr size_t kTokenBytes = 64;
constexpr int32_t kLeft = -1;  // In place of a pid.

void CopyToken(const std::string& token, char (&out)[kTokenBytes]) {
  std::memset(out, 0, kTokenBytes);
  std::memcpy(out, token.data(), std::min(token.size(), kTokenBytes));
}

}  // namespace

struct ShmGroup::Header {
  std::atomic<uint64_t> magic;
  int32_t size;
  char token[kTokenBytes];
  alignas(128) std::atomic<uint32_t> failure;
};

struct ShmGroup::RankLine {
  link::SharedCounter rounds;
  struct alignas(128) {
    std::atomic<int32_t> pid;  // 0: has not joined.
    std::atomic<uint64_t> start_ticks;
  } process;
  struct alignas(128) {
    std::atomic<uint64_t> descriptor;
  } descriptors[2];
  alignas(4096) std::byte buffers[2][kBufferBytes];
};

int64_t ShmGroup::SegmentBytes(int32_t size) {
  SHOAL_CHECK(size >= 1 && size <= kRanksMax, "size ", size);
  const int64_t ranks = size;
  return kHeaderBytes + ranks * static_cast<int64_t>(sizeof(RankLine)) +
         ranks * ranks * static_cast<int64_t>(sizeof(link::ShmRing));
}

ShmGroup::ShmGroup(link::SharedSegment segment, int32_t size)
    : segment_(std::move(segment)), size_(size) {
  static_assert(sizeof(Header) <= kHeaderBytes);
}

std::shared_ptr<ShmGroup> ShmGroup::MakeAnonymous(int32_t size) {
  return std::shared_ptr<ShmGroup>(
      new ShmGroup(link::SharedSegment::MakeAnonymous(SegmentBytes(size)), size));
}

std::shared_ptr<ShmGroup> ShmGroup::MakeNamed(int32_t size, const std::string& token) {
  SHOAL_CHECK(token.size() <= kTokenBytes, "token of ", token.size(), " bytes");
  std::shared_ptr<ShmGroup> group(
      new ShmGroup(link::SharedSegment::MakeNamed(SegmentBytes(size)), size));
  Header& header = group->header();
  header.size = size;
  CopyToken(token, header.token);
  header.magic.store(kMagic, std::memory_order_release);
  return group;
}

std::shared_ptr<ShmGroup> ShmGroup::Open(const std::string& path, int32_t size,
                                         const std::string& token) {
  std::shared_ptr<ShmGroup> group(
      new ShmGroup(link::SharedSegment::Open(path, SegmentBytes(size)), size));
  const Header& header = group->header();
  char expected[kTokenBytes];
  CopyToken(token, expected);
  if (header.magic.load(std::memory_order_acquire) != kMagic || header.size != size ||
      std::memcmp(header.token, expected, kTokenBytes) != 0) {
    Throw(ErrorCode::kFailed, "shared memory ", path, ": expected this group's token and ", size,
          " ranks: it belongs to another group or another build");
  }
  return group;
}

ShmGroup::Header& ShmGroup::header() const { return *reinterpret_cast<Header*>(segment_.data()); }

ShmGroup::RankLine& ShmGroup::line(int32_t rank) const {
  return reinterpret_cast<RankLine*>(segment_.data() + kHeaderBytes)[rank];
}

link::SharedCounter& ShmGroup::rounds(int32_t rank) const { return line(rank).rounds; }

std::byte* ShmGroup::buffer(int32_t rank, uint32_t round) const {
  return line(rank).buffers[round % 2];
}

std::atomic<uint64_t>& ShmGroup::descriptor(int32_t rank, uint32_t round) const {
  return line(rank).descriptors[round % 2].descriptor;
}

link::ShmRing& ShmGroup::ring(int32_t from, int32_t to) const {
  auto* rings = reinterpret_cast<link::ShmRing*>(&line(size_));
  return rings[static_cast<int64_t>(from) * size_ + to];
}

void ShmGroup::Join(int32_t rank) {
  const link::ProcessIdentity self = link::ThisProcess();
  line(rank).process.start_ticks.store(self.start_ticks, std::memory_order_relaxed);
  line(rank).process.pid.store(self.pid, std::memory_order_release);
}

void ShmGroup::Leave(int32_t rank) {
  line(rank).process.pid.store(kLeft, std::memory_order_release);
  WakeAll();
}

bool ShmGroup::IsPresent(int32_t rank) const {
  const int32_t pid = line(rank).process.pid.load(std::memory_order_acquire);
  if (pid <= 0) return pid == 0;
  return link::IsAlive({pid, line(rank).process.start_ticks.load(std::memory_order_relaxed)});
}

void ShmGroup::Fail(GroupFailure failure) {
  uint32_t none = 0;
  header().failure.compare_exchange_strong(none, failure.Pack());
  WakeAll();
}

GroupFailure ShmGroup::failure() const {
  return GroupFailure::Unpack(header().failure.load(std::memory_order_acquire));
}

void ShmGroup::WakeAll() const {
  for (int32_t rank = 0; rank < size_; ++rank) {
    rounds(rank).Wake();
    for (int32_t to = 0; to < size_; ++to) {
      if (to != rank) ring(rank, to).Wake();
    }
  }
}

}  // namespace shoal::comm
