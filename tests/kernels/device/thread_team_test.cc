// The team does every range once, with more threads than cores and for tiny ranges.

#include "kernels/device/thread_team.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <xmmintrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "transport/base/error.h"

namespace shoal::device {
namespace {

TEST(ThreadTeam, TilesTheRangeOnceWithPiecesOfAtMostGrain) {
  for (const int32_t threads : {1, 2, 3, 8}) {
    ThreadTeam team(threads);
    EXPECT_EQ(team.thread_count(), threads);
    for (const int64_t count : {0, 1, 2, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
        std::atomic<bool> bounds_hold = true;
        team.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int32_t thread) {
          if (begin >= end || end - begin > grain || begin < 0 || end > count || thread < 0 ||
              thread >= threads) {
            bounds_hold = false;
            return;
          }
          for (int64_t i = begin; i < end; ++i) visits[static_cast<size_t>(i)].fetch_add(1);
        });
        EXPECT_TRUE(bounds_hold);
        for (const std::atomic<int>& visit : visits) EXPECT_EQ(visit.load(), 1);
      }
    }
  }
}

// Plain memory on purpose: what a chunk wrote must be visible to the caller and to the next region.
TEST(ThreadTeam, OrdersMemoryBetweenRegionsWithManyMoreThreadsThanCores) {
  const int32_t threads = 4 * static_cast<int32_t>(std::thread::hardware_concurrency()) + 3;
  ThreadTeam team(threads);
  std::vector<int64_t> values(97, 0);
  for (int64_t region = 0; region < 3000; ++region) {
    const int64_t grain = 1 + region % 5;
    team.ParallelFor(97, grain, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t i = begin; i < end; ++i) {
        const size_t from = static_cast<size_t>((i + 1) % 97);
        if (region % 2 == 0) values[static_cast<size_t>(i)] += 1;
        if (region % 2 == 1 && values[from] != region / 2 + 1) std::abort();
      }
    });
    ASSERT_EQ(values[static_cast<size_t>(region % 97)], region / 2 + 1);
  }
}

TEST(ThreadTeam, RunsManyTinyRegionsOfChangingSize) {
  ThreadTeam team(3);
  int64_t total = 0;
  int64_t expected = 0;
  for (int64_t region = 0; region < 20000; ++region) {
    int64_t sums[4] = {};
    const int64_t count = region % 5;
    team.ParallelFor(
        count, 1, [&](int64_t begin, int64_t, int32_t thread) { sums[thread] += begin + region; });
    total += std::accumulate(sums, sums + 4, int64_t{0});
    expected += count * region + count * (count - 1) / 2;
  }
  EXPECT_EQ(total, expected);
}

// As much of it as fits: a thread that ran a part of another region's function would see both.
TEST(ThreadTeam, HandsEveryThreadWhatTheFunctionCaptured) {
  ThreadTeam team(4);
  std::atomic<int64_t> right = 0;
  constexpr size_t kValues = (RangeFunction::kBytesMax - 2 * sizeof(int64_t)) / sizeof(int64_t);
  for (int64_t region = 0; region < 5000; ++region) {
    std::array<int64_t, kValues> values;
    values.fill(region);
    team.ParallelFor(16, 1, [values, region, count = &right](int64_t, int64_t, int32_t) {
      if (std::ranges::count(values, region) == kValues) count->fetch_add(1);
    });
  }
  EXPECT_EQ(right.load(), 5000 * 16);
}

TEST(ThreadTeam, GivesEveryThreadOfARegionItsOwnNumber) {
  ThreadTeam team(4);
  std::mutex mutex;
  std::vector<std::thread::id> owners(4);
  for (int region = 0; region < 200; ++region) {
    team.ParallelFor(64, 1, [&](int64_t, int64_t, int32_t thread) {
      const std::lock_guard lock(mutex);
      std::thread::id& owner = owners[static_cast<size_t>(thread)];
      if (owner == std::thread::id()) owner = std::this_thread::get_id();
      EXPECT_EQ(owner, std::this_thread::get_id());
    });
  }
  EXPECT_EQ(owners[0], std::this_thread::get_id());
}

// The others are stuck in one chunk, or have claimed none: the caller does everything else.
TEST(ThreadTeam, LetsTheCallerFinishWhatNobodyElseClaims) {
  ThreadTeam team(2);
  std::atomic<int64_t> by_caller = 0;
  team.ParallelFor(100, 1, [&](int64_t, int64_t, int32_t thread) {
    if (thread == 0) {
      by_caller.fetch_add(1);
    } else {
      // Held until the caller has done all the 99 other chunks.
      while (by_caller.load() < 99) std::this_thread::yield();
    }
  });
  EXPECT_GE(by_caller.load(), 99);
}

TEST(ThreadTeam, LetsAThreadFinishItsOwnShareInOrderBeforeItHelpsWithAnother) {
  ThreadTeam team(2);
  for (int region = 0; region < 200; ++region) {
    std::vector<int64_t> begins[2];
    std::atomic<int> present = 0;
    team.ParallelFor(41, 2, [&](int64_t begin, int64_t, int32_t thread) {
      begins[thread].push_back(begin);
      if (begins[thread].size() > 1) return;
      // Both stand at their first chunk before either goes on.
      present.fetch_add(1);
      while (present.load() < 2) std::this_thread::yield();
    });
    // Of 21 chunks the caller's are the first 11.
    ASSERT_EQ(begins[0].front(), 0);
    ASSERT_EQ(begins[1].front(), 22);
    for (int thread = 0; thread < 2; ++thread) {
      const auto is_own = [&](int64_t begin) { return (begin < 22) == (thread == 0); };
      std::vector<int64_t> expected = begins[thread];
      std::sort(expected.begin(), expected.end(),
                [&](int64_t a, int64_t b) { return is_own(a) != is_own(b) ? is_own(a) : a < b; });
      ASSERT_EQ(begins[thread], expected);
    }
  }
}

// Threads of this process in the state S of proc(5).
int SleepingThreads() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string stat;
    std::getline(std::ifstream(task.path() / "stat"), stat);
    const size_t name_end = stat.rfind(')');
    if (name_end != std::string::npos && stat.compare(name_end, 3, ") S") == 0) ++count;
  }
  return count;
}

TEST(ThreadTeam, WakesThreadsThatFellAsleep) {
  const int others = SleepingThreads();  // A sanitizer may have one.
  ThreadTeam team(3);
  // Both threads must take part for the region to end, however deep they sleep.
  for (int round = 0; round < 20; ++round) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (SleepingThreads() < others + 2) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::yield();
    }
    std::atomic<int> present = 0;
    team.ParallelFor(3, 1, [&](int64_t, int64_t, int32_t) {
      present.fetch_add(1);
      while (present.load() < 3) std::this_thread::yield();
    });
    EXPECT_EQ(present.load(), 3);
  }
}

TEST(ThreadTeam, CallsEveryTaskOnceBesideItsRegions) {
  for (const int32_t threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    std::atomic<int> calls = 0;
    const std::function<void()> task = [&] { calls.fetch_add(1); };
    for (int round = 1; round <= 2000; ++round) {
      team.RunOnIdleThread(task);
      if (round % 3 == 0) team.RunOnIdleThread(task);
      std::atomic<int> chunks = 0;
      team.ParallelFor(round % 7, 1, [&](int64_t, int64_t, int32_t) { chunks.fetch_add(1); });
      ASSERT_EQ(chunks.load(), round % 7);
      ASSERT_GE(calls.load(), round + round / 3 - 1);  // The last may wait.
      if (round % 5 != 0) continue;
      team.FinishIdleTask();
      ASSERT_EQ(calls.load(), round + round / 3);
    }
  }
}

TEST(ThreadTeam, DoesARegionWithoutTheThreadThatATaskCalledAway) {
  ThreadTeam team(2);
  const auto caller = std::this_thread::get_id();
  std::atomic<bool> away = false;
  std::atomic<bool> back = false;
  const std::function<void()> task = [&] {
    if (std::this_thread::get_id() == caller) return;
    away = true;
    while (!back) std::this_thread::yield();
  };
  // The other thread may be asleep, or late.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!away) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    team.ParallelFor(2, 1, [](int64_t, int64_t, int32_t) {});
    team.RunOnIdleThread(task);
    for (int i = 0; i < 1000 && !away; ++i) std::this_thread::yield();
  }
  int64_t done = 0;
  team.ParallelFor(100, 1, [&](int64_t, int64_t, int32_t thread) { done += thread == 0; });
  EXPECT_EQ(done, 100);
  bool called = false;
  const std::function<void()> next = [&] { called = true; };
  team.RunOnIdleThread(next);  // Nobody else is there.
  EXPECT_TRUE(called);
  back = true;
  team.FinishIdleTask();
}

TEST(ThreadTeam, CallsATaskItselfWhileTheOthersSleep) {
  const int others = SleepingThreads();
  ThreadTeam team(2);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (SleepingThreads() < others + 1) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::yield();
  }
  std::thread::id by;
  const std::function<void()> task = [&] { by = std::this_thread::get_id(); };
  team.RunOnIdleThread(task);
  EXPECT_EQ(by, std::this_thread::get_id());
}

// Memory that may not be read, the end of the address space, and nothing at all: only a hint.
TEST(ThreadTeam, ReadsAheadWithoutTouchingMemory) {
  constexpr size_t kBytes = 1 << 20;
  void* guarded = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(guarded, MAP_FAILED);
  const auto* end = reinterpret_cast<const std::byte*>(~uintptr_t{0});
  const std::vector<std::byte> readable(777);
  const std::span<const std::byte> memories[] = {
      {static_cast<const std::byte*>(guarded), kBytes}, {end - 4096, 4096}, {readable}, {}};
  ThreadTeam team(3);
  for (int region = 0; region < 400; ++region) {
    team.ReadAhead(memories[region % 4]);
    std::atomic<int64_t> sum = 0;
    team.ParallelFor(50, 3, [&](int64_t begin, int64_t finish, int32_t) {
      for (int64_t i = begin; i < finish; ++i) sum.fetch_add(i);
    });
    ASSERT_EQ(sum.load(), 49 * 50 / 2);
  }
  munmap(guarded, kBytes);
}

TEST(ThreadTeam, RefusesAFloatingPointEnvironmentThatIsNotIeee) {
  const unsigned saved = _mm_getcsr();
  for (const unsigned bit : {0x8000u, 0x0040u, 0x2000u}) {
    _mm_setcsr(saved | bit);
    bool refused = false;
    try {
      ThreadTeam team(1);
    } catch (const Error& error) {
      refused = error.code() == ErrorCode::kFailed;
    }
    _mm_setcsr(saved);
    EXPECT_TRUE(refused) << bit;
  }
}

TEST(ThreadTeamDeathTest, AbortsOnANestedCall) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ThreadTeam team(2);
        team.ParallelFor(1, 1, [&](int64_t, int64_t, int32_t) {
          team.ParallelFor(1, 1, [](int64_t, int64_t, int32_t) {});
        });
      },
      "ParallelFor from inside ParallelFor");
}

}  // namespace
}  // namespace shoal::device
