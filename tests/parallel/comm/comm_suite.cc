#include "tests/parallel/comm/comm_suite.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <thread>
#include <utility>

#include "parallel/comm/outbox.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

// Inputs are a function of (seed, rank, index), so every rank can compute every other rank's and
// the expected result without communicating.

namespace shoal::test {
namespace {

using comm::Communicator;

void Require(bool condition, const std::string& what) {
  if (!condition) Throw(ErrorCode::kFailed, what);
}

// SplitMix64 of the position; full 64-bit values, so that sums wrap around.
uint64_t Mixed(uint64_t seed, int64_t rank, int64_t index) {
  uint64_t z = seed + 0x9e3779b97f4a7c15 * static_cast<uint64_t>(rank * 1'000'003 + index + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

template <typename T>
T ValueAt(uint64_t seed, int64_t rank, int64_t index) {
  return static_cast<T>(Mixed(seed, rank, index));
}

// Of very different magnitudes, so that another order of adding gives other bits.
template <>
float ValueAt<float>(uint64_t seed, int64_t rank, int64_t index) {
  const uint64_t z = Mixed(seed, rank, index);
  const float scale = static_cast<float>(uint64_t{1} << (z % 40));
  return (static_cast<float>(z >> 40) - 8388608.0F) * scale;
}

template <typename T>
std::vector<T> Values(uint64_t seed, int64_t rank, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] = ValueAt<T>(seed, rank, i);
  }
  return values;
}

// Eight bytes of each mixed value: large messages are to try the communicator, not this function.
template <>
std::vector<uint8_t> Values<uint8_t>(uint64_t seed, int64_t rank, int64_t count) {
  std::vector<uint8_t> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); i += 8) {
    const uint64_t mixed = Mixed(seed, rank, static_cast<int64_t>(i));
    std::memcpy(values.data() + i, &mixed, std::min<size_t>(8, values.size() - i));
  }
  return values;
}

// Combines all ranks' values in rank order.
template <typename T, typename Combine>
std::vector<T> Combined(uint64_t seed, int32_t size, int64_t count, Combine combine) {
  std::vector<T> total = Values<T>(seed, 0, count);
  for (int32_t rank = 1; rank < size; ++rank) {
    const std::vector<T> more = Values<T>(seed, rank, count);
    for (size_t i = 0; i < total.size(); ++i) total[i] = combine(total[i], more[i]);
  }
  return total;
}

int64_t AddWrapping(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

template <typename T>
void RequireSame(const std::vector<T>& found, const std::vector<T>& expected,
                 const std::string& what) {
  Require(found.size() == expected.size(), what + ": size");
  if (found.empty() || std::memcmp(found.data(), expected.data(), found.size() * sizeof(T)) == 0) {
    return;
  }
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::memcmp(&found[i], &expected[i], sizeof(T)) != 0) {
      Throw(ErrorCode::kFailed, what, ": element ", i, " of ", found.size(), ": expected ",
            +static_cast<int64_t>(expected[i]), ", found ", +static_cast<int64_t>(found[i]));
    }
  }
}

// Unequal, with zeros among them, of `total` in sum. Equal on all ranks.
std::vector<int64_t> UnequalCounts(int32_t size, int64_t total, int64_t salt) {
  std::vector<int64_t> counts(static_cast<size_t>(size), 0);
  int64_t left = total;
  for (int32_t i = 0; i < size; ++i) {
    const size_t rank = static_cast<size_t>((i + salt) % size);
    const int64_t count = i + 1 == size ? left : left / 2;
    counts[rank] = count;
    left -= count;
  }
  return counts;
}

int64_t OffsetOf(const std::vector<int64_t>& counts, int32_t rank) {
  int64_t offset = 0;
  for (int32_t r = 0; r < rank; ++r) offset += counts[static_cast<size_t>(r)];
  return offset;
}

template <typename T>
std::vector<T> Slice(const std::vector<T>& values, int64_t begin, int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

void CheckSumInt64(Communicator& comm, uint64_t seed, int64_t count) {
  std::vector<int64_t> data = Values<int64_t>(seed, comm.rank(), count);
  comm.AllReduceSum(std::span(data));
  RequireSame(data, Combined<int64_t>(seed, comm.size(), count, AddWrapping),
              "AllReduceSum(int64)");
}

void CheckSumFloat(Communicator& comm, uint64_t seed, int64_t count) {
  std::vector<float> data = Values<float>(seed, comm.rank(), count);
  comm.AllReduceSum(std::span(data));
  const auto add = [](float a, float b) { return a + b; };
  RequireSame(data, Combined<float>(seed, comm.size(), count, add), "AllReduceSum(float)");
}

void CheckMax(Communicator& comm, uint64_t seed, int64_t count) {
  std::vector<int64_t> data = Values<int64_t>(seed, comm.rank(), count);
  comm.AllReduceMax(std::span(data));
  const auto larger = [](int64_t a, int64_t b) { return std::max(a, b); };
  RequireSame(data, Combined<int64_t>(seed, comm.size(), count, larger), "AllReduceMax");
}

void CheckReduceScatter(Communicator& comm, uint64_t seed, int64_t count) {
  const std::vector<int64_t> counts =
      UnequalCounts(comm.size(), count, static_cast<int64_t>(seed % 7));
  const int64_t own = counts[static_cast<size_t>(comm.rank())];
  const std::vector<int64_t> data = Values<int64_t>(seed, comm.rank(), count);
  std::vector<int64_t> piece(static_cast<size_t>(own), -1);
  comm.ReduceScatterSum(data, counts, piece);
  const std::vector<int64_t> total = Combined<int64_t>(seed, comm.size(), count, AddWrapping);
  const std::vector<int64_t> expected = Slice(total, OffsetOf(counts, comm.rank()), own);
  RequireSame(piece, expected, "ReduceScatterSum");

  std::vector<int64_t> in_place = data;
  const auto part = std::span(in_place).subspan(static_cast<size_t>(OffsetOf(counts, comm.rank())),
                                                static_cast<size_t>(own));
  comm.ReduceScatterSum(in_place, counts, part);
  RequireSame(std::vector<int64_t>(part.begin(), part.end()), expected,
              "ReduceScatterSum in place");
}

void CheckAllGather(Communicator& comm, uint64_t seed, int64_t bytes) {
  const std::vector<int64_t> counts =
      UnequalCounts(comm.size(), bytes, static_cast<int64_t>(seed % 5));
  std::vector<uint8_t> expected;
  for (int32_t rank = 0; rank < comm.size(); ++rank) {
    const auto part = Values<uint8_t>(seed, rank, counts[static_cast<size_t>(rank)]);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  const int64_t own = counts[static_cast<size_t>(comm.rank())];
  const auto piece = Values<uint8_t>(seed, comm.rank(), own);
  std::vector<uint8_t> gathered(static_cast<size_t>(bytes), 0xee);
  comm.AllGather(std::as_bytes(std::span(piece)), counts,
                 std::as_writable_bytes(std::span(gathered)));
  RequireSame(gathered, expected, "AllGather");

  std::vector<uint8_t> in_place(static_cast<size_t>(bytes), 0xee);
  const auto slot = std::span(in_place).subspan(static_cast<size_t>(OffsetOf(counts, comm.rank())),
                                                static_cast<size_t>(own));
  std::copy(piece.begin(), piece.end(), slot.begin());
  comm.AllGather(std::as_bytes(slot), counts, std::as_writable_bytes(std::span(in_place)));
  RequireSame(in_place, expected, "AllGather in place");
}

// From rank a to rank b go about bytes / size, but none to every third.
int64_t ExchangeCount(uint64_t seed, int32_t from, int32_t to, int32_t size, int64_t bytes) {
  const auto mixed = static_cast<int64_t>(Mixed(seed, from, to) >> 1);
  return mixed % 3 == 0 ? 0 : mixed % (bytes / size + 1);
}

void CheckAllToAllV(Communicator& comm, uint64_t seed, int64_t bytes) {
  const int32_t self = comm.rank();
  std::vector<uint8_t> data;
  std::vector<uint8_t> expected;
  std::vector<int64_t> send_counts;
  std::vector<int64_t> receive_counts;
  for (int32_t peer = 0; peer < comm.size(); ++peer) {
    send_counts.push_back(ExchangeCount(seed, self, peer, comm.size(), bytes));
    const auto sent = Values<uint8_t>(seed + static_cast<uint64_t>(peer), self, send_counts.back());
    data.insert(data.end(), sent.begin(), sent.end());
    receive_counts.push_back(ExchangeCount(seed, peer, self, comm.size(), bytes));
    const auto due =
        Values<uint8_t>(seed + static_cast<uint64_t>(self), peer, receive_counts.back());
    expected.insert(expected.end(), due.begin(), due.end());
  }
  std::vector<uint8_t> received(expected.size(), 0xee);
  comm.AllToAllV(std::as_bytes(std::span(data)), send_counts,
                 std::as_writable_bytes(std::span(received)), receive_counts);
  RequireSame(received, expected, "AllToAllV");
}

void CheckBroadcast(Communicator& comm, uint64_t seed, int64_t bytes) {
  for (const int32_t root : {comm.size() - 1, 0, comm.size() / 2}) {
    const auto expected = Values<uint8_t>(seed, root, bytes);
    std::vector<uint8_t> data = expected;
    if (comm.rank() != root) std::ranges::fill(data, uint8_t{0xee});
    comm.Broadcast(std::as_writable_bytes(std::span(data)), root);
    RequireSame(data, expected, Str("Broadcast from ", root));
  }
}

// Around the ring, one hop at a time, each rank adding nothing: rank 0 starts and ends.
void CheckSendReceive(Communicator& comm, uint64_t seed, int64_t bytes) {
  if (comm.size() == 1) return;
  const auto expected = Values<uint8_t>(seed, 0, bytes);
  const int32_t next = (comm.rank() + 1) % comm.size();
  const int32_t previous = (comm.rank() + comm.size() - 1) % comm.size();
  std::vector<uint8_t> data = expected;
  if (comm.rank() == 0) comm.Send(std::as_bytes(std::span(data)), next);
  std::ranges::fill(data, uint8_t{0xee});
  comm.Receive(std::as_writable_bytes(std::span(data)), previous);
  RequireSame(data, expected, "Send and Receive");
  if (comm.rank() != 0) comm.Send(std::as_bytes(std::span(data)), next);
}

// Two messages each way between neighbours arrive in order; the sizes differ.
void CheckMessageOrder(Communicator& comm, uint64_t seed, int64_t bytes) {
  const int32_t peer = comm.rank() ^ 1;
  if (peer >= comm.size()) return comm.Barrier();
  const auto send = [&](uint64_t salt, int64_t count) {
    const auto data = Values<uint8_t>(seed + salt, comm.rank(), count);
    comm.Send(std::as_bytes(std::span(data)), peer);
  };
  const auto receive = [&](uint64_t salt, int64_t count) {
    std::vector<uint8_t> data(static_cast<size_t>(count), 0xee);
    comm.Receive(std::as_writable_bytes(std::span(data)), peer);
    RequireSame(data, Values<uint8_t>(seed + salt, peer, count), "message order");
  };
  for (const bool sends : {comm.rank() < peer, comm.rank() > peer}) {
    if (sends) {
      send(1, bytes);
      send(2, bytes / 2 + 1);
    } else {
      receive(1, bytes);
      receive(2, bytes / 2 + 1);
    }
  }
  comm.Barrier();
}

// Of two neighbours the even one has posted everything, and is busy elsewhere, before the other one
// receives the first of it.
void CheckOutbox(Communicator& comm, uint64_t seed, int64_t bytes) {
  constexpr uint64_t kMessages = 5;
  const auto posts = comm.Split(0, comm.rank());
  const int32_t peer = comm.rank() ^ 1;
  std::byte byte{};
  const std::span<std::byte> turn(&byte, 1);
  if (peer < comm.size() && comm.rank() < peer) {
    const SteadyClock clock;
    comm::Outbox outbox(*posts, peer, kMessages, clock, 60'000);
    for (uint64_t i = 0; i < kMessages; ++i) {
      const auto data = Values<uint8_t>(seed + i, comm.rank(), bytes);
      const auto message = std::as_bytes(std::span(data));
      outbox.Post({message.begin(), message.end()});
    }
    comm.Send(turn, peer);
    comm.Receive(turn, peer);
    outbox.Flush();
  } else if (peer < comm.size()) {
    comm.Receive(turn, peer);
    for (uint64_t i = 0; i < kMessages; ++i) {
      std::vector<uint8_t> data;
      for (const std::byte found : comm::ReceiveMessage(*posts, peer)) {
        data.push_back(std::to_integer<uint8_t>(found));
      }
      RequireSame(data, Values<uint8_t>(seed + i, peer, bytes), "Outbox");
    }
    comm.Send(turn, peer);
  }
  comm.Barrier();
}

// Even and odd ranks, in reversed order, work beside the parent.
void CheckSplit(Communicator& comm, uint64_t seed, int64_t bytes) {
  const int32_t color = comm.rank() % 2;
  const auto child = comm.Split(color, -comm.rank());
  const int32_t child_size = (comm.size() - color + 1) / 2;
  Require(child->size() == child_size, Str("Split: ", child->size(), " ranks"));
  Require(child->rank() == child_size - 1 - comm.rank() / 2, Str("Split: rank ", child->rank()));
  CheckSumInt64(*child, seed + static_cast<uint64_t>(color), bytes / 8);
  CheckSumFloat(comm, seed, bytes / 4);
  CheckBroadcast(*child, seed + static_cast<uint64_t>(color), bytes);
  child->Barrier();
  comm.Barrier();
}

template <void (*kCheck)(Communicator&, uint64_t, int64_t), int64_t kElementBytes>
void RunSized(Communicator& comm, int64_t bytes) {
  // Not a multiple of any buffer: 7 elements more when there is anything at all.
  const int64_t count = bytes < kElementBytes ? bytes : bytes / kElementBytes + 7;
  kCheck(comm, 11, count);
}

// Whether `operation` throws kPeerLost.
bool LosesPeer(const std::function<void()>& operation) {
  try {
    operation();
  } catch (const Error& error) {
    return error.code() == ErrorCode::kPeerLost;
  }
  return false;
}

}  // namespace

const std::vector<SuiteCase>& SuiteCases() {
  static const std::vector<SuiteCase> cases = {
      {"SumsIntegersModulo2To64", RunSized<CheckSumInt64, 8>},
      {"SumsFloatsInRankOrder", RunSized<CheckSumFloat, 4>},
      {"FindsTheMaximum", RunSized<CheckMax, 8>},
      {"ReducesAndScattersUnequalPieces", RunSized<CheckReduceScatter, 8>},
      {"GathersUnequalPieces", RunSized<CheckAllGather, 1>},
      {"ExchangesAllToAll", RunSized<CheckAllToAllV, 1>},
      {"BroadcastsFromAnyRank", RunSized<CheckBroadcast, 1>},
      {"PassesAMessageAround", RunSized<CheckSendReceive, 1>},
      {"KeepsMessagesInOrder", RunSized<CheckMessageOrder, 1>},
      {"PostsWithoutWaiting", RunSized<CheckOutbox, 1>},
      {"SplitsIntoIndependentGroups", RunSized<CheckSplit, 1>},
  };
  return cases;
}

void RunRandomSequence(Communicator& comm, uint64_t seed, int32_t count) {
  std::mt19937_64 random(seed);  // The same on all ranks.
  for (int32_t i = 0; i < count; ++i) {
    const uint64_t choice = random() % 8;
    const uint64_t salt = random();
    // Mostly small, some of several rounds.
    const auto bytes = static_cast<int64_t>(random() % (random() % 16 == 0 ? 200'000 : 3000));
    switch (choice) {
      case 0:
        CheckSumInt64(comm, salt, bytes / 8);
        break;
      case 1:
        CheckSumFloat(comm, salt, bytes / 4);
        break;
      case 2:
        CheckReduceScatter(comm, salt, bytes / 8);
        break;
      case 3:
        CheckAllGather(comm, salt, bytes);
        break;
      case 4:
        CheckAllToAllV(comm, salt, bytes);
        break;
      case 5:
        CheckBroadcast(comm, salt, bytes);
        break;
      case 6:
        CheckSendReceive(comm, salt, bytes);
        break;
      default:
        comm.Barrier();
    }
  }
}

void RunAbort(Communicator& comm) {
  std::thread aborter;
  const bool lost = LosesPeer([&] {
    // News of the abort may overtake the end of this barrier.
    comm.Barrier();
    if (comm.rank() == 0) aborter = std::thread([&] { comm.Abort(); });
    // Everybody waits for a message that nobody sends.
    std::byte never{};
    if (comm.size() > 1) comm.Receive({&never, 1}, comm.rank() == 0 ? 1 : 0);
  });
  if (aborter.joinable()) aborter.join();
  Require(lost || comm.size() == 1, "the pending operation did not fail with kPeerLost");
  std::vector<int64_t> data(4);
  Require(LosesPeer([&] { comm.AllReduceSum(std::span(data)); }),
          "a later AllReduceSum did not fail");
  Require(LosesPeer([&] { comm.Barrier(); }), "a later Barrier did not fail");
}

void RunSplitAbort(Communicator& comm) {
  const auto child = comm.Split(comm.rank() % 2, 0);
  const int32_t last = comm.size() - 1;
  Require(LosesPeer([&] {
            comm.Barrier();
            if (comm.rank() == last) child->Abort();
            // The last rank does not get to send.
            std::byte never{};
            comm.Broadcast({&never, 1}, last);
            comm.Barrier();
          }),
          "the parent of an aborted part did not fail");
  Require(LosesPeer([&] { child->Barrier(); }), "a part did not fail with its parent");
}

}  // namespace shoal::test
