// Which rows' logits must come together in one place, and where what they give belongs.

#include "worker/forward/choice/wanted_rows.h"

#include <gtest/gtest.h>

#include <vector>

namespace shoal::forward {
namespace {

class WantedRowsTest : public testing::Test {
 protected:
  // A sequence of `tokens` tokens, all of them its prompt, of which `rows` are the step's last.
  void Add(int32_t tokens, uint32_t rows, bool prompt_logits, const GenerationParams& params) {
    const auto slot = static_cast<uint32_t>(plan_.starts.size());
    plan_.starts.push_back({.slot = slot,
                            .id = slot,
                            .tokens = std::vector<int32_t>(tokens),
                            .prompt_count = static_cast<uint32_t>(tokens),
                            .params = params,
                            .blocks = {}});
    plan_.items.push_back({.slot = slot,
                           .position_begin = static_cast<uint32_t>(tokens) - rows,
                           .row_count = rows,
                           .sample = true,
                           .prompt_logits = prompt_logits,
                           .new_blocks = {static_cast<int32_t>(slot)},
                           .drafts = {}});
  }

  void List(bool all_logits) {
    SequenceTable sequences(4);
    sequences.Apply(plan_);
    StepRows rows(16);
    rows.List(plan_, sequences);
    result_.items.assign(plan_.items.size(), {});
    wanted_.List(rows, sequences, all_logits, result_);
  }

  static GenerationParams Greedy() {
    GenerationParams params;
    params.sampling.temperature = 0;
    return params;
  }

  engine::StepPlan plan_;
  engine::StepResult result_;
  WantedRows wanted_;
};

TEST_F(WantedRowsTest, MaximaDecideUnlessAFilterOrLogProbabilitiesNeedAllLogits) {
  GenerationParams filtered;
  filtered.sampling.temperature = 1;
  filtered.sampling.top_k = 5;
  GenerationParams scored = Greedy();
  scored.top_logprobs = 0;
  Add(4, 3, false, Greedy());
  Add(2, 1, false, filtered);
  Add(2, 2, false, scored);
  List(/*all_logits=*/false);
  EXPECT_EQ(wanted_.by_maximum, (std::vector<WantedRow>{{2, -1, 0}}));
  EXPECT_EQ(wanted_.from_all, (std::vector<WantedRow>{{3, -1, 0}, {5, -1, 0}}));
  for (const engine::ItemResult& item : result_.items) EXPECT_EQ(item.chosen.size(), 1U);

  List(/*all_logits=*/true);
  EXPECT_TRUE(wanted_.by_maximum.empty());
  EXPECT_EQ(wanted_.from_all, (std::vector<WantedRow>{{2, -1, 0}, {3, -1, 0}, {5, -1, 0}}));
}

TEST_F(WantedRowsTest, APromptsRowsScoreItsNextTokensAndTheLastOneChooses) {
  Add(3, 3, true, Greedy());
  List(/*all_logits=*/false);
  EXPECT_EQ(wanted_.from_all, (std::vector<WantedRow>{{0, 0, -1}, {1, 1, -1}}));
  EXPECT_EQ(wanted_.by_maximum, (std::vector<WantedRow>{{2, -1, 0}}));
  EXPECT_EQ(result_.items[0].prompt_logprobs.size(), 2U);
}

TEST_F(WantedRowsTest, DraftsChooseEachInItsPlace) {
  Add(4, 1, false, Greedy());
  plan_.items[0].drafts = {8, 9};
  plan_.items[0].row_count = 3;
  List(/*all_logits=*/false);
  EXPECT_EQ(wanted_.by_maximum, (std::vector<WantedRow>{{0, -1, 0}, {1, -1, 1}, {2, -1, 2}}));
  EXPECT_EQ(result_.items[0].chosen.size(), 3U);
}

}  // namespace
}  // namespace shoal::forward
