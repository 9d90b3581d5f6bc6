#include <gtest/gtest.h>

#include "kernels/cpu/probe/probe.h"
#include "kernels/cpu/table.h"
#include "tests/kernels/cpu/every_variant.h"

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

class Probe : public EveryVariant {};

TEST_P(Probe, ReadsEveryLine) {
  alignas(64) std::byte lines[7 * 64] = {};
  for (int64_t line = 0; line < 7; ++line) {
    lines[64 * line] = std::byte{1};
    EXPECT_NE(variant().probe.read(lines, sizeof(lines)), 0U) << "line " << line;
    lines[64 * line] = std::byte{0};
  }
  EXPECT_EQ(variant().probe.read(lines, sizeof(lines)), 0U);
}

// Sums of products of the operands, 3 * 2 for bytes and 0.5 * 0.25 for floats, over all lanes or
// those that the result tells of.
TEST_P(Probe, DoesTheOperationsItIsCreditedWith) {
  const ProbeKernels& probe = variant().probe;
  if (variant().name == "scalar" || variant().name == "avx512vnni") {
    EXPECT_EQ(probe.byte_dots(10), static_cast<uint64_t>(10 * probe.byte_dot_ops * 6));
  }
  if (variant().name != "avx2") {
    EXPECT_EQ(probe.fmas(16), static_cast<uint64_t>(16 * probe.fma_ops / 8));
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Probe, testing::ValuesIn(AllKernelTables()), VariantName);

}  // namespace
}  // namespace shoal::cpu
