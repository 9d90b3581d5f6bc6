#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "transport/base/error.h"
#include "transport/base/host/cores.h"
#include "transport/link/process_identity.h"
#include "transport/link/shm/shared_counter.h"
#include "transport/link/shm/shared_segment.h"
#include "transport/link/shm/shm_ring.h"
#include "transport/link/wait_policy.h"

// Shared memory between threads of this process and a forked child.

namespace shoal::link {
namespace {

constexpr int64_t kSegmentBytes = 1 << 20;

// Ends waits when told to.
class FlagGuard : public WaitGuard {
 public:
  TimeNs Check() override {
    if (ended_.load()) Throw(ErrorCode::kPeerLost, "told to end");
    return kSecondNs;
  }
  void End() { ended_.store(true); }

 private:
  std::atomic<bool> ended_{false};
};

ErrorCode CodeOf(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kFailed;
}

TEST(SharedSegment, IsTheSameMemoryForWhoeverOpensItsPath) {
  const SharedSegment made = SharedSegment::MakeNamed(kSegmentBytes);
  const SharedSegment opened = SharedSegment::Open(made.path(), kSegmentBytes);
  made.data()[kSegmentBytes - 1] = std::byte{42};
  EXPECT_EQ(opened.data()[kSegmentBytes - 1], std::byte{42});
}

TEST(SharedSegment, CannotBeOpenedOnceSealed) {
  SharedSegment made = SharedSegment::MakeNamed(kSegmentBytes);
  const std::string path = made.path();
  made.Seal();
  EXPECT_EQ(CodeOf([&] { SharedSegment::Open(path, kSegmentBytes); }), ErrorCode::kPeerLost);
}

TEST(SharedSegment, RefusesAnotherSize) {
  const SharedSegment made = SharedSegment::MakeNamed(kSegmentBytes);
  EXPECT_EQ(CodeOf([&] { SharedSegment::Open(made.path(), 2 * kSegmentBytes); }),
            ErrorCode::kFailed);
}

TEST(IsAlive, TellsProcessesFromZombiesAndFromLaterProcessesOfTheSameNumber) {
  const ProcessIdentity self = ThisProcess();
  EXPECT_TRUE(IsAlive(self));
  EXPECT_FALSE(IsAlive({self.pid, self.start_ticks + 1}));
  const SharedSegment memory = SharedSegment::MakeAnonymous(4096);
  auto* child = reinterpret_cast<ProcessIdentity*>(memory.data());
  const pid_t pid = fork();
  if (pid == 0) {
    *child = ThisProcess();
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  EXPECT_EQ(child->pid, pid);
  EXPECT_TRUE(IsAlive(*child)) << "a stopped process is alive";
  kill(pid, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(IsAlive(*child)) << "a zombie is not";
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_FALSE(IsAlive(*child));
}

class WaitPolicies : public ::testing::TestWithParam<WaitPolicy> {};

INSTANTIATE_TEST_SUITE_P(SpinningAndSleeping, WaitPolicies,
                         ::testing::Values(WaitPolicy{.spins = 1'000'000, .yields = 0},
                                           WaitPolicy{.spins = 0, .yields = 1'000},
                                           WaitPolicy{.spins = 0, .yields = 0}),
                         [](const auto& info) {
                           return Str("spins", info.param.spins, "yields", info.param.yields);
                         });

TEST_P(WaitPolicies, HandOverEveryCountPastTheWrapOfTheCounter) {
  constexpr uint32_t kFirst = UINT32_MAX - 500;
  SharedCounter ping{};
  SharedCounter pong{};
  ping.value = pong.value = kFirst;
  FlagGuard guard;
  std::thread other([&] {
    for (uint32_t i = 1; i <= 1000; ++i) {
      WaitUntilReached(ping, kFirst + i, GetParam(), guard);
      pong.Publish(kFirst + i);
    }
  });
  for (uint32_t i = 1; i <= 1000; ++i) {
    ping.Publish(kFirst + i);
    WaitUntilReached(pong, kFirst + i, GetParam(), guard);
  }
  other.join();
  EXPECT_EQ(pong.value.load(), kFirst + 1000);
}

TEST_P(WaitPolicies, EndWhenTheGuardThrows) {
  SharedCounter counter{};
  FlagGuard guard;
  std::thread ender([&] {
    guard.End();
    counter.Wake();
  });
  EXPECT_EQ(CodeOf([&] { WaitUntilReached(counter, 1, GetParam(), guard); }), ErrorCode::kPeerLost);
  ender.join();
}

TEST_P(WaitPolicies, MoveMessagesLargerThanTheRingInOrder) {
  const auto ring = std::make_unique<ShmRing>();
  FlagGuard guard;
  constexpr size_t kBytes = 5 * ShmRing::kBytes + 17;
  std::vector<std::byte> sent(kBytes);
  for (size_t i = 0; i < kBytes; ++i) sent[i] = static_cast<std::byte>(i * 31 >> 3);
  std::thread writer([&] { ring->Write(sent, GetParam(), guard); });
  std::vector<std::byte> received(kBytes);
  // Unequal reads, so that the ring's end falls inside of them.
  std::span<std::byte> rest(received);
  for (size_t size = 1; !rest.empty(); size = size * 3 + 1) {
    const size_t count = std::min(size, rest.size());
    ring->Read(rest.first(count), GetParam(), guard);
    rest = rest.subspan(count);
  }
  writer.join();
  EXPECT_EQ(received, sent);
}

TEST(ShmRing, NeverHoldsMoreThanItsSize) {
  const auto ring = std::make_unique<ShmRing>();
  FlagGuard guard;
  const std::vector<std::byte> fits(ShmRing::kBytes);
  ring->Write(fits, {}, guard);
  guard.End();
  EXPECT_EQ(CodeOf([&] { ring->Write(std::span(fits).first(1), {}, guard); }),
            ErrorCode::kPeerLost);
}

TEST(ShmRing, KnowsHowMuchItTakesAtOnce) {
  const auto ring = std::make_unique<ShmRing>();
  FlagGuard guard;
  std::vector<std::byte> bytes(1000);
  EXPECT_EQ(ring->Room(), ShmRing::kBytes);
  ring->Write(bytes, {}, guard);
  EXPECT_EQ(ring->Room(), ShmRing::kBytes - 1000);
  ring->Read(std::span(bytes).first(400), {}, guard);
  EXPECT_EQ(ring->Room(), ShmRing::kBytes - 600);
}

TEST(WaitPolicy, SleepsLaterWhenThereIsACoreForEachThread) {
  EXPECT_GE(AvailableCores(), 1);
  EXPECT_GT(WaitPolicy::ForThreads(AvailableCores()).yields,
            WaitPolicy::ForThreads(AvailableCores() + 1).yields);
}

}  // namespace
}  // namespace shoal::link
