// What a rank counts before it allocates, and what its KV cache becomes.

#include "worker/rank/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/format/packed.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "worker/engine/choice/sampler.h"
#include "worker/forward/activations.h"
#include "worker/rank/agreement.h"
#include "worker/rank/group_setup.h"

namespace shoal::rank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr MemoryNeeds kNeeds{.weights = 1000, .activations = 200, .kv_per_token = 10};

std::string Refusal(const std::function<void()>& work) {
  const std::optional<Failure> failure = TryTo(work);
  if (!failure) return "";
  EXPECT_EQ(failure->code, ErrorCode::kInvalidArgument);
  return failure->message;
}

int64_t CacheTokens(int64_t free_bytes, const CacheUse& use, const MemoryNeeds& needs = kNeeds) {
  return DefaultCacheTokens(3, needs, needs.fixed() + free_bytes, use);
}

TEST(DefaultCacheTokens, TakesWhatAllSequencesNeedIfItFitsInHalfOfWhatIsFree) {
  EXPECT_EQ(CacheTokens(2 * 3200, {.context_tokens = 160, .sequences_max = 2}), 320);
  EXPECT_EQ(CacheTokens(2 * 3200, {.context_tokens = 150, .sequences_max = 2}), 320);
}

TEST(DefaultCacheTokens, OtherwiseTakesHalfInWholeBlocks) {
  EXPECT_EQ(CacheTokens(2 * 3200, {.context_tokens = 50'000, .sequences_max = 2}), 320);
  EXPECT_EQ(CacheTokens(2 * 3500, {.context_tokens = 50'000, .sequences_max = 2}), 320);
}

TEST(DefaultCacheTokens, TakesMoreThanHalfForTheLeastAndRefusesLess) {
  const CacheUse use{.context_tokens = 50'000, .sequences_max = 2, .tokens_least = 320};
  EXPECT_EQ(CacheTokens(3200, use), 320);
  EXPECT_THAT(Refusal([&] { CacheTokens(3199, use); }),
              AllOf(HasSubstr("rank 3 needs 4400 bytes"), HasSubstr("there are 4399"),
                    HasSubstr("use more ranks")));
  EXPECT_THAT(Refusal([&] { CacheTokens(-1100, use); }), HasSubstr("there are 100"));
}

// 16 TiB are free, and many sequences could use them.
TEST(DefaultCacheTokens, TakesNoMoreThanAPersonExpects) {
  constexpr int64_t kFree = int64_t{1} << 44;
  MemoryNeeds needs{.weights = 100'000'000, .activations = 0, .kv_per_token = 1 << 15};
  const auto bytes = [&](const CacheUse& use) {
    return CacheTokens(kFree, use, needs) * needs.kv_per_token;
  };
  CacheUse use{.context_tokens = 8192, .sequences_max = 1000};
  EXPECT_EQ(bytes(use), int64_t{1} << 30);
  needs.weights = int64_t{5} << 30;
  EXPECT_EQ(bytes(use), int64_t{5} << 30) << "as much as the weights";
  use.context_tokens = 1 << 20;
  EXPECT_EQ(bytes(use), int64_t{1} << 35) << "one sequence of full length";
  use.bytes_max = int64_t{3} << 20;
  EXPECT_EQ(bytes(use), int64_t{3} << 20) << "what the user says";
  use.bytes_max = int64_t{1} << 40;
  EXPECT_EQ(bytes(use), int64_t{1} << 40);
}

TEST(DefaultCacheTokens, RefusesABoundBelowTheLeast) {
  const CacheUse use{
      .context_tokens = 320, .sequences_max = 2, .tokens_least = 320, .bytes_max = 3199};
  EXPECT_THAT(Refusal([&] { CacheTokens(1'000'000, use); }),
              AllOf(HasSubstr("320 cached tokens of 10 bytes"),
                    HasSubstr("kv-cache-bytes-max is 3199: raise it")));
}

TEST(CheckMemory, ComparesEverythingTogetherWithWhatThereIs) {
  EXPECT_EQ(Refusal([] { CheckMemory(0, kNeeds, 1200 + 320, 32, 0); }), "");
  EXPECT_THAT(Refusal([] { CheckMemory(0, kNeeds, 1200 + 319, 32, 0); }), HasSubstr("needs 1520"));
  EXPECT_NE(Refusal([] { CheckMemory(0, kNeeds, 1199, 0, 0); }), "");
  EXPECT_EQ(Refusal([] { CheckMemory(0, kNeeds, 1200 + 320, 32, 320); }), "");
  EXPECT_THAT(Refusal([] { CheckMemory(0, kNeeds, 1200 + 320, 32, 319); }),
              HasSubstr("kv-cache-bytes-max is 319"));
}

TEST(ComputeNeeds, CountsTheSamplersWhereTokensAreChosenFromWholeVocabularies) {
  const test::ScratchFolder folder;
  const auto model = model::Model::Open(test::WriteModel(test::Q4_1Spec(), folder.path()));
  const plan::Cut cut{.tensor_parallel = 2, .pipeline_parallel = 2};
  const auto shards = plan::PlanCut(*model, {.cut = cut, .rank_speeds = {}});
  for (const plan::RankShard& shard : shards) {
    const StepShape shape{.cut = cut, .rows_max = 48, .context_tokens = 256, .threads = 3};
    const int64_t samplers = 3 * engine::Sampler::MemoryBytes(model->config().vocab_size);
    EXPECT_EQ(ComputeNeeds(*model, shard, shape).activations,
              forward::Activations::MemoryBytes(*model, shard, 48, 3, 2, false) +
                  256 * model->config().head_dim * 4 + (shard.rank == 2 ? samplers : 0));
  }
  EXPECT_GE(engine::Sampler::MemoryBytes(256'000), 12'000'000);
}

// Three groups that start one after another find different memory.
TEST(SetUpGroup, LeavesTheContextToTheModelWhateverMemoryThereIs) {
  const test::ScratchFolder folder;
  comm::MpiEnvironment environment;
  const SteadyClock clock;
  WorkerOptions options;
  options.model = test::WriteModel(test::Q4_1Spec(), folder.path());
  options.threads = 1;
  const int64_t context = test::Q4_1Spec().context_tokens;
  MemoryNeeds needs;
  {
    const auto roomy = SetUpGroup(environment, options, "", clock);
    EXPECT_EQ(roomy->context_tokens, context);
    EXPECT_EQ(roomy->cache_tokens, context * options.scheduler.sequences_max);
    needs = roomy->needs;
  }
  for (const int64_t tokens : {64, 96}) {
    options.memory_bytes_max = needs.fixed() + 2 * tokens * needs.kv_per_token;
    const auto tight = SetUpGroup(environment, options, "", clock);
    EXPECT_EQ(tight->context_tokens, context);
    EXPECT_EQ(tight->cache_tokens, tokens);
  }
  options.context_tokens_max = context;
  EXPECT_THAT(Refusal([&] {
                options.memory_bytes_max = needs.fixed() + 96 * needs.kv_per_token;
                SetUpGroup(environment, options, "", clock);
              }),
              HasSubstr("256 cached tokens"))
      << "a context that was asked for";
}

}  // namespace
}  // namespace shoal::rank
