// One request that ends every group it meets costs three groups, and no more.

#include <gtest/gtest.h>

#include <future>

#include "tests/e2e/failover/forked/forked_region.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/patience.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

constexpr int kLosses = 3;

Ask LongAsk(std::vector<int32_t> prompt) {
  Ask ask;
  ask.request.prompt = std::move(prompt);
  ask.request.params.tokens_max = 8000;
  ask.request.params.sampling = {.temperature = 1, .seed = 1};
  ask.request.seed_given = true;
  return ask;
}

// The groups that have a stream of a client's.
std::vector<GroupStatus> Busy(ForkedRegion& region) {
  std::vector<GroupStatus> groups = region.Groups(true);
  std::erase_if(groups, [](const GroupStatus& group) { return group.streams == 0; });
  return groups;
}

TEST(RequestThatMeetsThreeLostGroups, EndsAsSuspectAndIsRefused) {
  const ScratchFolder folder;
  // Of three wide layers, so that the answer takes far longer than three losses.
  ModelSpec spec = Q4_1Spec();
  spec.context_tokens = 8448;
  const std::string path = WriteModel(spec, folder.path());
  const auto model = model::Model::Open(path);
  ForkedRegionOptions options;
  options.coordinator.model = path;
  options.keeper.ranks_max = 1;
  options.keeper.kv_block_count_least = 256;
  options.folder = folder.path();
  ForkedRegion region(*model, options);
  region.WaitForReady(2);
  const Door door = region.door();
  std::future<Answer> poison = std::async(std::launch::async, [&] {
    return Get(door, LongAsk({7, 8, 9}));
  });
  for (int losses = 0; losses < kLosses;) {
    ASSERT_NE(poison.wait_for(std::chrono::milliseconds(20)), std::future_status::ready)
        << "after " << losses << " losses: " << poison.get().error;
    for (const GroupStatus& group : Busy(region)) {
      if (region.keeper().Kill(static_cast<pid_t>(group.ranks.at(0).pid))) ++losses;
    }
  }
  const Answer answer = poison.get();
  EXPECT_NE(answer.error.find("request_suspect"), std::string::npos) << answer.error;
  region.WaitForReady(2);
  const Answer again = Get(door, LongAsk({7, 8, 9}));
  EXPECT_NE(again.error.find("request_suspect"), std::string::npos) << again.error;
  Ask other = LongAsk({9, 8, 7});
  other.request.params.tokens_max = 4;
  EXPECT_EQ(Get(door, other).error, "");
  EXPECT_EQ(region.Status().group_losses_total, kLosses);
}

}  // namespace
}  // namespace shoal::test
