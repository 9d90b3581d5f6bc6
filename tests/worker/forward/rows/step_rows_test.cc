// Which rows a plan makes, which of them are wanted, and which is the first bad one of an item.

#include "worker/forward/rows/step_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace shoal::forward {
namespace {

using testing::ElementsAre;

class StepRowsTest : public testing::Test {
 protected:
  // Slot 0: a prompt of five tokens. Slot 1: a prompt of two and an answer of one, with a draft.
  StepRowsTest() {
    plan_.starts = {{.slot = 0,
                     .id = 7,
                     .tokens = {10, 11, 12, 13, 14},
                     .prompt_count = 5,
                     .params = {},
                     .blocks = {}},
                    {.slot = 1,
                     .id = 8,
                     .tokens = {20, 21, 22},
                     .prompt_count = 2,
                     .params = {},
                     .blocks = {}}};
    plan_.items = {{.slot = 0,
                    .position_begin = 1,
                    .row_count = 3,
                    .sample = false,
                    .prompt_logits = false,
                    .new_blocks = {4},
                    .drafts = {}},
                   {.slot = 1,
                    .position_begin = 2,
                    .row_count = 2,
                    .sample = true,
                    .prompt_logits = false,
                    .new_blocks = {9},
                    .drafts = {23}}};
  }

  void List() {
    sequences_.Apply(plan_);
    rows_.List(plan_, sequences_);
  }

  std::vector<int64_t> BadLayers() const {
    std::vector<int64_t> layers;
    for (int64_t r = 0; r < rows_.count(); ++r) layers.push_back(rows_[r].bad_layer);
    return layers;
  }

  engine::StepPlan plan_;
  SequenceTable sequences_{2};
  StepRows rows_{8};
};

TEST_F(StepRowsTest, SayWhereEachRowBelongs) {
  List();
  ASSERT_EQ(rows_.count(), 5);
  EXPECT_EQ(rows_[0].token, 11);
  EXPECT_EQ(rows_[2].position, 3);
  EXPECT_EQ(rows_[2].block_table[0], 4);
  EXPECT_EQ(rows_[3].item, 1U);
  EXPECT_EQ(rows_[3].token, 22);
  EXPECT_EQ(rows_[4].token, 23) << "the draft";
  EXPECT_EQ(rows_[4].block_table[0], 9);
}

TEST_F(StepRowsTest, WantRowsThatChooseAndRowsThatScoreThePrompt) {
  List();
  EXPECT_EQ(rows_.CountWanted(), 2) << "the decode and its draft";
  EXPECT_TRUE(rows_[3].chooses && rows_[4].chooses);

  plan_.starts.clear();
  plan_.items.resize(1);
  plan_.items[0] = {.slot = 0,
                    .position_begin = 2,
                    .row_count = 3,
                    .sample = true,
                    .prompt_logits = true,
                    .new_blocks = {},
                    .drafts = {}};
  List();
  ASSERT_EQ(rows_.count(), 3);
  EXPECT_TRUE(rows_[0].scores_the_next && rows_[1].scores_the_next);
  EXPECT_FALSE(rows_[2].scores_the_next) << "the prompt ends with it";
  EXPECT_FALSE(rows_[0].chooses || rows_[1].chooses);
  EXPECT_TRUE(rows_[2].chooses);
}

TEST_F(StepRowsTest, KeepWantedRowsInTheirOrder) {
  List();
  EXPECT_THAT(rows_.KeepWanted(), ElementsAre(3, 4));
  ASSERT_EQ(rows_.count(), 2);
  EXPECT_EQ(rows_[0].position, 2);
  EXPECT_EQ(rows_[1].position, 3);
  EXPECT_EQ(rows_.CountWanted(), 2);
}

TEST_F(StepRowsTest, BlameTheFirstLayerThatWentWrong) {
  List();
  rows_[1].Blame(3);
  rows_[1].Blame(2);  // Later in the step: what came of the first.
  EXPECT_EQ(rows_[1].bad_layer, 3);
}

TEST_F(StepRowsTest, TheFirstBadLayerOfSeveralRanksIsTheLargestNumber) {
  List();
  rows_[0].Blame(6);
  rows_[1].Blame(0);
  rows_[3].Blame(32);
  std::vector<int64_t> numbers(5);
  rows_.PutBadLayers(numbers);
  StepRows other(8);
  other.List(plan_, sequences_);
  other[0].Blame(4);
  other[1].Blame(9);
  other[2].Blame(1);
  std::vector<int64_t> others(5);
  other.PutBadLayers(others);
  for (size_t r = 0; r < numbers.size(); ++r) numbers[r] = std::max(numbers[r], others[r]);
  rows_.TakeBadLayers(numbers);
  EXPECT_THAT(BadLayers(), ElementsAre(4, 0, 1, 32, -1));
}

TEST_F(StepRowsTest, ReportTheFirstBadRowOfEachItemAlsoAmongThoseThatLeft) {
  List();
  rows_[2].Blame(5);
  rows_[1].Blame(7);
  rows_[4].Blame(1);
  rows_.KeepWanted();
  engine::StepResult result;
  result.items.resize(2);
  rows_.ReportBadRows(plan_, result);
  EXPECT_EQ(result.items[0].bad_row, 1);
  EXPECT_EQ(result.items[0].detail, "layer 7, position 2");
  EXPECT_EQ(result.items[1].bad_row, 1);
  EXPECT_EQ(result.items[1].detail, "layer 1, position 3");

  plan_.starts.clear();
  plan_.items.resize(1);
  plan_.items[0].new_blocks.clear();
  List();
  result.items.assign(1, {});
  rows_.ReportBadRows(plan_, result);
  EXPECT_EQ(result.items[0].bad_row, -1) << "of the step before";
}

}  // namespace
}  // namespace shoal::forward
