// Every bit that ranks must share counts, and who differs is named.

#include "worker/forward/rows/step_digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "worker/engine/step_plan.h"

namespace shoal::forward {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kColumns = 5;
constexpr int64_t kThreeRows = 3;
constexpr uint64_t kBad = StepDigest::kWrongSum;

void ListThree(StepRows& rows) {
  engine::StepPlan plan;
  plan.starts.resize(1);
  plan.starts[0].tokens = {1, 2, 3};
  plan.items.resize(1);
  plan.items[0].row_count = kThreeRows;
  plan.items[0].new_blocks = {0};
  SequenceTable sequences(1);
  sequences.Apply(plan);
  rows.List(plan, sequences);
}

uint64_t DigestOf(const StepRows& rows, const std::vector<float>& residual) {
  StepDigest digest;
  digest.Begin();
  digest.AddRows(rows, residual.data(), kColumns);
  return digest.value();
}

TEST(StepDigest, IsChangedByEveryValueAndEveryBadRow) {
  StepRows rows(kThreeRows);
  ListThree(rows);
  const std::vector<float> residual(kThreeRows * kColumns, 0.5F);
  std::set<uint64_t> digests = {DigestOf(rows, residual)};
  for (size_t i = 0; i < residual.size(); ++i) {
    std::vector<float> flipped = residual;
    flipped[i] = std::nextafter(flipped[i], 1.0F);
    digests.insert(DigestOf(rows, flipped));
    flipped[i] = -0.5F;
    digests.insert(DigestOf(rows, flipped));
  }
  rows[1].Blame(4);
  digests.insert(DigestOf(rows, residual));
  rows[2].Blame(4);
  digests.insert(DigestOf(rows, residual));
  EXPECT_EQ(digests.size(), 1 + 2 * residual.size() + 2);
}

TEST(StepDigest, IgnoresWhatIsLeftOfARowThatWentWrong) {
  StepRows rows(kThreeRows);
  ListThree(rows);
  rows[1].Blame(4);
  std::vector<float> residual(kThreeRows * kColumns, 0.5F);
  const uint64_t digest = DigestOf(rows, residual);
  residual[kColumns] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(DigestOf(rows, residual), digest);
  residual[0] = 0.25F;
  EXPECT_NE(DigestOf(rows, residual), digest);
}

TEST(StepDigest, OfAKnownWrongSumIsNotCoveredUp) {
  StepRows rows(kThreeRows);
  ListThree(rows);
  const std::vector<float> residual(kThreeRows * kColumns);
  StepDigest digest;
  digest.MarkWrongSum();
  digest.AddRows(rows, residual.data(), kColumns);
  EXPECT_EQ(digest.value(), kBad);
  digest.Begin();
  EXPECT_NE(digest.value(), kBad);
}

TEST(DigestDifference, IsNoneWhereRanksAgreeInEachStage) {
  EXPECT_EQ(FindDigestDifference(1, std::vector<uint64_t>{7, 7, 7}, 1), "");
  EXPECT_EQ(FindDigestDifference(1, std::vector<uint64_t>{7, 8, 7, 8}, 2), "");
}

TEST(DigestDifference, NamesStepStageDigestsAndTheMinority) {
  EXPECT_THAT(FindDigestDifference(20, std::vector<uint64_t>{7, 7, 10}, 1),
              AllOf(HasSubstr("step 20, stage 0"), HasSubstr("rank 0 has 0000000000000007"),
                    HasSubstr("rank 2 has 000000000000000a"), HasSubstr("so wrong: rank 2.")));
  // Stage 1 is that of ranks 2 and 3; what goes wrong there goes on in stage 2.
  EXPECT_THAT(FindDigestDifference(5, std::vector<uint64_t>{7, 8, 9, 7, 1, 2}, 3),
              AllOf(HasSubstr("step 5, stage 1"), HasSubstr("rank 2 has 0000000000000008"),
                    HasSubstr("rank 3 has 0000000000000001"), Not(HasSubstr("stage 2")),
                    HasSubstr("cannot be told")));
  EXPECT_THAT(FindDigestDifference(5, std::vector<uint64_t>{7, 7, 8, 9}, 1),
              HasSubstr("so wrong: rank 2, rank 3."));
  EXPECT_THAT(FindDigestDifference(5, std::vector<uint64_t>{7, 7, 8, 8}, 1),
              HasSubstr("cannot be told"));
}

TEST(DigestDifference, BlamesARankThatFoundAWrongSum) {
  EXPECT_THAT(FindDigestDifference(5, std::vector<uint64_t>{7, kBad}, 1),
              AllOf(HasSubstr("rank 1 has a sum that is not that of its parts"),
                    HasSubstr("so wrong: rank 1.")));
  EXPECT_THAT(FindDigestDifference(5, std::vector<uint64_t>{kBad, kBad}, 1),
              HasSubstr("so wrong: rank 0, rank 1."));
}

}  // namespace
}  // namespace shoal::forward
