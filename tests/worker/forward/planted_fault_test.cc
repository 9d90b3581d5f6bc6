// That a fault is planted where it is asked for, once, and that a wrong wish is refused.

#include "worker/forward/planted_fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"

namespace shoal::forward {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Refusal(const std::string& text) {
  try {
    ParsePlantedFault(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(PlantedFault, IsReadFromItsText) {
  EXPECT_EQ(
      ParsePlantedFault("wrong-sum:rank=1,step=20"),
      (PlantedFault{.kind = FaultKind::kWrongSum, .rank = 1, .step = 20, .layer = {}, .once = ""}));
  EXPECT_EQ(
      ParsePlantedFault("wrong-sum:step=20,layer=3,rank=0,once=/tmp/x=y"),
      (PlantedFault{
          .kind = FaultKind::kWrongSum, .rank = 0, .step = 20, .layer = 3, .once = "/tmp/x=y"}));
  EXPECT_EQ(ParsePlantedFault("exit:rank=2,step=0").kind, FaultKind::kExit);
  EXPECT_EQ(ParsePlantedFault("hang:rank=2,step=0").kind, FaultKind::kHang);
  EXPECT_EQ(ParsePlantedFault("oom:rank=2,step=0").kind, FaultKind::kOutOfMemory);
}

TEST(PlantedFault, IsRefusedWithWhatIsWrong) {
  EXPECT_THAT(Refusal("crash:rank=1,step=2"),
              AllOf(HasSubstr("SHOAL_PLANT_FAULT is crash:rank=1,step=2"),
                    HasSubstr("no fault named crash"), HasSubstr("expected KIND:rank=R")));
  EXPECT_THAT(Refusal("exit"), HasSubstr("lacks rank"));
  EXPECT_THAT(Refusal("exit:rank=1"), HasSubstr("lacks step"));
  EXPECT_THAT(Refusal("exit:rank=1,step="), HasSubstr("\"step=\" is not NAME=VALUE"));
  EXPECT_THAT(Refusal("exit:rank=1,step=2,,"), HasSubstr("\"\" is not NAME=VALUE"));
  EXPECT_THAT(Refusal("exit:rank=-1,step=2"), HasSubstr("rank is -1"));
  EXPECT_THAT(Refusal("exit:rank=1,step=2x"), HasSubstr("step is 2x"));
  EXPECT_THAT(Refusal("exit:rank=99999999999,step=2"), HasSubstr("rank is 99999999999"));
  EXPECT_THAT(Refusal("exit:rank=1,step=2,layer=3"), HasSubstr("it has no layer"));
  EXPECT_THAT(Refusal("exit:rank=1,step=2,step=3"), HasSubstr("step twice"));
  EXPECT_THAT(Refusal("exit:rank=1,step=2,colour=3"), HasSubstr("it has no colour"));
}

// Two stages of one rank each, with four layers and three.
std::vector<plan::RankShard> TwoStages() {
  std::vector<plan::RankShard> shards(2);
  shards[0].layers = {0, 4};
  shards[1].layers = {4, 7};
  return shards;
}

TEST(FaultSwitch, StrikesItsRankOnceInTheFirstStepFromItsOwnOn) {
  const PlantedFault fault = ParsePlantedFault("wrong-sum:rank=1,step=20");
  FaultSwitch other(fault, TwoStages(), 0);
  FaultSwitch armed(fault, TwoStages(), 1);
  other.OnStep(20);
  EXPECT_FALSE(other.TakesSum(4));
  armed.OnStep(19);
  EXPECT_FALSE(armed.TakesSum(4));
  armed.OnStep(23);
  EXPECT_FALSE(armed.TakesSum(5));
  EXPECT_TRUE(armed.TakesSum(4)) << "the rank's first layer";
  EXPECT_FALSE(armed.TakesSum(4));
  armed.OnStep(24);
  EXPECT_FALSE(armed.TakesSum(4));
}

TEST(FaultSwitch, TakesTheLayerThatIsNamed) {
  FaultSwitch armed(ParsePlantedFault("wrong-sum:rank=1,step=0,layer=6"), TwoStages(), 1);
  armed.OnStep(0);
  EXPECT_FALSE(armed.TakesSum(4));
  EXPECT_TRUE(armed.TakesSum(6));
}

TEST(FaultSwitch, RefusesOnEveryRankWhatNoRankHas) {
  const auto refusal = [](const std::string& text, int32_t rank) -> std::string {
    try {
      const FaultSwitch made(ParsePlantedFault(text), TwoStages(), rank);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  for (const int32_t rank : {0, 1}) {
    EXPECT_THAT(refusal("exit:rank=2,step=0", rank), HasSubstr("names rank 2, there are 2"));
    EXPECT_THAT(refusal("wrong-sum:rank=1,step=0,layer=3", rank),
                HasSubstr("rank 1 has those from 4 to 6"));
    EXPECT_EQ(refusal("wrong-sum:rank=1,step=0,layer=6", rank), "");
  }
}

TEST(FaultSwitch, SparesWhoeverComesAfterTheOneThatWasStruck) {
  const test::ScratchFolder folder;
  const PlantedFault fault =
      ParsePlantedFault("oom:rank=0,step=1,once=" + folder.path() + "/struck");
  FaultSwitch first(fault, TwoStages(), 0);
  first.OnStep(0);
  EXPECT_FALSE(std::filesystem::exists(fault.once));
  EXPECT_THROW(first.OnStep(1), std::bad_alloc);
  EXPECT_TRUE(std::filesystem::exists(fault.once));
  FaultSwitch second(fault, TwoStages(), 0);
  EXPECT_NO_THROW(second.OnStep(1));
}

TEST(FaultSwitchDeathTest, EndsTheProcess) {
  FaultSwitch armed(ParsePlantedFault("exit:rank=0,step=0"), TwoStages(), 0);
  EXPECT_EXIT(armed.OnStep(0), ::testing::ExitedWithCode(9), "");
}

}  // namespace
}  // namespace shoal::forward
