#include <gtest/gtest.h>

#include "kernels/cpu/probe.h"
#include "kernels/cpu/probe_loops.h"

// The ceilings that measurements are divided by: that the loops do the work they are credited with.

namespace shoal::cpu {
namespace {

// Every reading is a second later, so that what is timed takes exactly one.
class SteppingClock : public Clock {
 public:
  TimeNs now() const override { return time_ += kSecondNs; }

 private:
  mutable TimeNs time_ = 0;
};

const KernelTable& BestTable() { return SelectKernelTable(DetectCpuFeatures(), ""); }

TEST(StreamingRead, CreditsWholeLinesOfTheBuffer) {
  device::ThreadTeam team(2);
  const SteppingClock clock;
  const StreamingRead read(BestTable(), team, 3'000'000);
  EXPECT_EQ(read.BytesPerSecond(clock), StreamingRead::kPasses * (3'000'000 / 64 * 64));
}

TEST(DotOpsPerSecond, IsPositiveForEveryFormat) {
  device::ThreadTeam team(1);
  const SteadyClock clock;
  EXPECT_GT(DotOpsPerSecond(BestTable(), DType::kQ4_1, team, clock), 0);
  EXPECT_GT(DotOpsPerSecond(BestTable(), DType::kF32, team, clock), 0);
}

TEST(ProbeLoops, ReadEveryLine) {
  alignas(64) std::byte lines[7 * 64] = {};
  const auto expect_change = [&](uint64_t (*read)(const std::byte*, int64_t)) {
    for (int64_t line = 0; line < 7; ++line) {
      lines[64 * line] = std::byte{1};
      EXPECT_NE(read(lines, sizeof(lines)), 0U) << "line " << line;
      lines[64 * line] = std::byte{0};
    }
    EXPECT_EQ(read(lines, sizeof(lines)), 0U);
  };
  expect_change(ReadScalar);
  if ((DetectCpuFeatures() & kAvx2) != 0) expect_change(ReadAvx2);
  if ((DetectCpuFeatures() & kAvx512Vnni) != 0) expect_change(ReadAvx512);
}

// Sums of ones times the operands, 3 * 2 for bytes and 0.5 * 0.25 for floats.
TEST(ProbeLoops, DoTheOperationsTheyAreCreditedWith) {
  EXPECT_EQ(ByteDotsScalar(10), static_cast<uint64_t>(10 * kByteDotOpsScalar * 6));
  EXPECT_EQ(FmasScalar(16), static_cast<uint64_t>(16 * kFmaOpsScalar / 8));
  if ((DetectCpuFeatures() & kAvx512Vnni) == 0) return;
  EXPECT_EQ(ByteDotsAvx512(10), static_cast<uint64_t>(10 * kByteDotOpsAvx512 * 6));
  EXPECT_EQ(FmasAvx512(16), static_cast<uint64_t>(16 * kFmaOpsAvx512 / 8));
}

}  // namespace
}  // namespace shoal::cpu
