// The same request gives the same bits for every cut, batch, chunking and instruction set.
//
// Every run is compared with one reference: scalar kernels, one rank, one request after the other,
// whole prompts. A pairwise subset of the axes runs by default; SHOAL_MATRIX=full runs the product.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>

#include "kernels/cpu/table.h"
#include "kernels/math/scalar.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"

namespace shoal::test {
namespace {

constexpr int64_t kWholePrompt = 512;
constexpr const char* kMixed = "mixed";  // Another instruction set on each rank.

std::vector<std::string> InstructionSets() {
  std::vector<std::string> names;
  const uint32_t features = cpu::DetectCpuFeatures();
  for (const cpu::KernelTable& table : cpu::AllKernelTables()) {
    if ((table.required_features & features) == table.required_features) {
      names.emplace_back(table.name);
    }
  }
  return names;
}

// One run, as an index into the values of each axis.
constexpr int kAxisCount = 5;
using Choice = std::array<int, kAxisCount>;

struct Axes {
  std::vector<int> tensor;
  std::vector<int> pipeline;
  std::vector<int64_t> chunk = {1, 7, 32, kWholePrompt};
  std::vector<bool> batched = {false, true};
  std::vector<std::string> isa;

  std::array<int, kAxisCount> sizes() const {
    return {static_cast<int>(tensor.size()), static_cast<int>(pipeline.size()),
            static_cast<int>(chunk.size()), static_cast<int>(batched.size()),
            static_cast<int>(isa.size())};
  }
};

Axes AxesOf(const model::Model& model) {
  Axes axes;
  for (const int tensor : {1, 2, 3, 4, 8}) {
    if (tensor <= plan::LargestTensorParallel(model.leaves())) axes.tensor.push_back(tensor);
  }
  for (const int pipeline : {1, 2, 3}) {
    if (pipeline <= model.config().layer_count) axes.pipeline.push_back(pipeline);
  }
  axes.isa = InstructionSets();
  axes.isa.emplace_back(kMixed);
  return axes;
}

std::vector<Choice> Product(const Axes& axes) {
  std::vector<Choice> runs = {{}};
  for (int axis = 0; axis < kAxisCount; ++axis) {
    std::vector<Choice> longer;
    for (Choice run : runs) {
      for (run[axis] = 0; run[axis] < axes.sizes()[axis]; ++run[axis]) longer.push_back(run);
    }
    runs = std::move(longer);
  }
  return runs;
}

// Greedy: the run that covers most pairs of values not yet covered, the first of equals.
std::vector<Choice> Pairwise(const std::vector<Choice>& product) {
  using Pair = std::array<int, 4>;
  const auto pairs_of = [](const Choice& run) {
    std::vector<Pair> pairs;
    for (int a = 0; a < kAxisCount; ++a) {
      for (int b = a + 1; b < kAxisCount; ++b) pairs.push_back({a, run[a], b, run[b]});
    }
    return pairs;
  };
  std::set<Pair> open;
  for (const Choice& run : product) {
    for (const Pair& pair : pairs_of(run)) open.insert(pair);
  }
  std::vector<Choice> chosen;
  while (!open.empty()) {
    const Choice* best = nullptr;
    int64_t best_count = 0;
    for (const Choice& run : product) {
      const std::vector<Pair> pairs = pairs_of(run);
      const int64_t count = std::count_if(pairs.begin(), pairs.end(),
                                          [&](const Pair& pair) { return open.contains(pair); });
      if (count > best_count) {
        best = &run;
        best_count = count;
      }
    }
    for (const Pair& pair : pairs_of(*best)) open.erase(pair);
    chosen.push_back(*best);
  }
  return chosen;
}

// Prompts of several lengths, each with another way of choosing tokens.
std::vector<rank::TrialRequest> Requests(const model::ModelConfig& config, bool batched) {
  const std::vector<SamplingParams> samplings = {
      {.temperature = 0},
      {.temperature = 0.8, .seed = 1},
      {.temperature = 1.2, .top_k = 40, .top_p = 0.9, .seed = 2},
      {.temperature = 0.7, .min_p = 0.05, .seed = 3}};
  std::vector<int64_t> lengths = {1, 5, 33, 70};
  if (config.context_tokens > 256 && config.context_tokens < 8192) lengths.push_back(300);
  std::vector<rank::TrialRequest> requests;
  for (size_t i = 0; i < lengths.size(); ++i) {
    rank::TrialRequest& request = requests.emplace_back();
    for (int64_t position = 0; position < lengths[i]; ++position) {
      const auto words = math::Philox4x32(
          {static_cast<uint32_t>(position), static_cast<uint32_t>(i), 0, 0}, {7, 0});
      request.prompt.push_back(words[0] % config.vocab_size);
    }
    request.params.sampling = samplings[i % samplings.size()];
    request.params.tokens_max = 8;
    request.params.prompt_logprobs = true;
    request.params.top_logprobs = static_cast<int32_t>(i);
    // While others wait, read their prompt or decode; or when the one before has ended.
    request.arrival_step = batched ? static_cast<int64_t>(i * 3 % 7) : INT64_MAX;
  }
  return requests;
}

std::string Describe(const Axes& axes, const Choice& run) {
  return Str("tensor ", axes.tensor[run[0]], ", pipeline ", axes.pipeline[run[1]], ", chunk ",
             axes.chunk[run[2]], axes.batched[run[3]] ? ", batched" : ", alone", ", ",
             axes.isa[run[4]]);
}

TrialGroupOptions OptionsOf(const Axes& axes, const Choice& run) {
  TrialGroupOptions options;
  options.cut = {axes.tensor[run[0]], axes.pipeline[run[1]]};
  options.prefill_chunk_tokens = axes.chunk[run[2]];
  options.isa = {axes.isa[run[4]]};
  if (axes.isa[run[4]] == kMixed) {
    const std::vector<std::string> names = InstructionSets();
    options.isa.clear();
    for (int rank = 0; rank < options.cut.rank_count(); ++rank) {
      options.isa.push_back(names[rank % names.size()]);
    }
  }
  // Rows of chunks of 7 are always sequence-parallel, and some ranks get none; of 32 never; of
  // longer ones when the step has many rows.
  if (options.prefill_chunk_tokens == 7) options.sequence_parallel_rows_min = 1;
  options.threads = run[3] + 1;
  return options;
}

// Says where the first difference is, rather than printing two maps.
void ExpectSame(const Observation& expected, const Observation& seen) {
  ASSERT_EQ(expected.digests.size(), seen.digests.size());
  for (const auto& [key, digest] : expected.digests) {
    const auto found = seen.digests.find(key);
    ASSERT_NE(found, seen.digests.end()) << "request " << key.first << ", row " << key.second;
    ASSERT_EQ(found->second, digest) << "request " << key.first << ", row " << key.second;
  }
  ASSERT_EQ(expected.answers.size(), seen.answers.size());
  for (size_t i = 0; i < expected.answers.size(); ++i) {
    ASSERT_EQ(expected.answers[i].tokens, seen.answers[i].tokens) << "request " << i;
    ASSERT_TRUE(expected.answers[i] == seen.answers[i]) << "request " << i << ": log-probabilities";
  }
  ASSERT_EQ(expected.numerics_id, seen.numerics_id);
}

class Exactness : public ::testing::TestWithParam<ModelSpec> {};

TEST_P(Exactness, NoCutBatchChunkOrInstructionSetChangesABit) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(GetParam(), folder.path()));
  TrialGroupOptions plain;
  plain.isa = {"scalar"};
  plain.prefill_chunk_tokens = kWholePrompt;
  const Observation reference =
      RunTrialGroup(*model, Requests(model->config(), /*batched=*/false), plain);
  ASSERT_FALSE(reference.digests.empty());
  const Axes axes = AxesOf(*model);
  const char* matrix = std::getenv("SHOAL_MATRIX");
  const std::vector<Choice> product = Product(axes);
  const bool full = matrix != nullptr && std::string(matrix) == "full";
  const std::vector<Choice> runs = full ? product : Pairwise(product);
  ASSERT_TRUE(full || runs.size() <= 60) << runs.size() << " runs";
  for (const Choice& run : runs) {
    SCOPED_TRACE(Describe(axes, run));
    const Observation seen = RunTrialGroup(*model, Requests(model->config(), axes.batched[run[3]]),
                                           OptionsOf(axes, run));
    ASSERT_NO_FATAL_FAILURE(ExpectSame(reference, seen));
  }
  RecordProperty("runs", static_cast<int>(runs.size()));
}

class OwnFormats : public ::testing::TestWithParam<ModelSpec> {};

// Scales of activations that span a leaf, and leaves as wide as scale groups of 128.
TEST_P(OwnFormats, GiveTheSameBitsAtEveryCut) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(GetParam(), folder.path()));
  TrialGroupOptions options;
  options.isa = {"scalar"};
  const Observation reference =
      RunTrialGroup(*model, Requests(model->config(), /*batched=*/false), options);
  ASSERT_FALSE(reference.digests.empty());
  options.prefill_chunk_tokens = 7;
  for (const int tensor : {1, 2, 3, 8}) {
    options.cut = {tensor, tensor == 8 ? 1 : 2};
    for (const std::string& isa : InstructionSets()) {
      SCOPED_TRACE(Str(isa, ", tensor ", tensor));
      options.isa = {isa};
      ASSERT_NO_FATAL_FAILURE(ExpectSame(
          reference, RunTrialGroup(*model, Requests(model->config(), /*batched=*/true), options)));
    }
  }
}

// Requests, and two more of the longest prompt, of which one finds the blocks that the other is
// about to compute in the same step.
std::vector<rank::TrialRequest> RequestsThatShare(const model::ModelConfig& config, bool batched) {
  std::vector<rank::TrialRequest> requests = Requests(config, batched);
  rank::TrialRequest request = requests.back();
  request.params.prompt_logprobs = false;  // A request with them shares no block.
  for (const uint64_t seed : {11, 12}) {
    request.params.sampling = {.temperature = 0.9, .seed = seed};
    requests.push_back(request);
  }
  return requests;
}

class ManyRows : public ::testing::TestWithParam<ModelSpec> {};

// Steps of 300 rows and more, which threads take through the layers in tiles of rows, whose first
// positions lie in the middle of a block of the cache.
TEST_P(ManyRows, GiveTheSameBitsWhicheverThreadTakesThem) {
  ModelSpec spec = GetParam();
  spec.context_tokens = 520;
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(spec, folder.path()));
  TrialGroupOptions options;
  options.isa = {"scalar"};
  options.prefill_chunk_tokens = 32;
  const Observation reference =
      RunTrialGroup(*model, RequestsThatShare(model->config(), /*batched=*/false), options);
  ASSERT_FALSE(reference.digests.empty());
  options.prefill_chunk_tokens = 1024;
  options.prefix_cache = true;
  for (const int threads : {2, 3}) {
    for (const int pipeline : {1, 2}) {
      for (const std::string& isa : InstructionSets()) {
        if (isa == "scalar") continue;  // The reference; slow enough once.
        SCOPED_TRACE(Str(isa, ", ", threads, " threads, pipeline ", pipeline));
        options.threads = threads;
        options.cut.pipeline_parallel = pipeline;
        options.isa = {isa};
        ASSERT_NO_FATAL_FAILURE(ExpectSame(
            reference,
            RunTrialGroup(*model, RequestsThatShare(model->config(), /*batched=*/true), options)));
      }
    }
  }
}

// One request that needs most of the context, for attention over many segments and two spans.
std::vector<rank::TrialRequest> OneLongRequest(const model::ModelConfig& config) {
  rank::TrialRequest request;
  for (int64_t position = 0; position < config.context_tokens - 16; ++position) {
    request.prompt.push_back(
        math::Philox4x32({static_cast<uint32_t>(position), 0, 0, 0}, {9, 0})[0] %
        config.vocab_size);
  }
  request.params.sampling = {.temperature = 0.8, .seed = 5};
  request.params.tokens_max = 8;
  request.params.prompt_logprobs = true;
  return {request};
}

TEST(LongContext, GivesTheSameBitsBeyondOneSpanOfPositions) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(VeryLongSpec(), folder.path()));
  ASSERT_GT(model->config().context_tokens, cpu::kSpanKeys + 64);
  const std::vector<rank::TrialRequest> requests = OneLongRequest(model->config());
  TrialGroupOptions options;
  options.isa = {"scalar"};
  options.digest_positions_from = requests[0].prompt.size() - 64;
  const Observation reference = RunTrialGroup(*model, requests, options);
  ASSERT_EQ(reference.digests.size(), 64u + 7u);
  for (const std::string& isa : InstructionSets()) {
    if (isa == "scalar") continue;  // The reference; slow enough once.
    for (const int tensor : {1, 2}) {
      SCOPED_TRACE(Str(isa, ", tensor ", tensor));
      options.isa = {isa};
      options.cut.tensor_parallel = tensor;
      options.prefill_chunk_tokens = tensor == 2 ? 100 : 512;
      options.threads = tensor == 2 ? 1 : 3;  // A chunk's rows do not divide evenly by 3.
      ASSERT_NO_FATAL_FAILURE(ExpectSame(reference, RunTrialGroup(*model, requests, options)));
    }
  }
}

// A cache too small for all requests at once makes them wait and be recomputed, not change.
TEST(TightCache, GivesTheSameBitsAfterWaitingAndPreemption) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(Q4_1Spec(), folder.path()));
  std::vector<rank::TrialRequest> requests;
  for (int i = 0; i < 6; ++i) {
    rank::TrialRequest& request = requests.emplace_back();
    for (int position = 0; position < 20 + i; ++position)
      request.prompt.push_back(3 * position + i);
    request.params.sampling = {.temperature = 0.9, .seed = static_cast<uint64_t>(i)};
    request.params.tokens_max = 60;
  }
  TrialGroupOptions options;
  const Observation reference = RunTrialGroup(*model, requests, options);
  options.kv_block_count = 5;
  options.cut = {2, 2};
  ASSERT_NO_FATAL_FAILURE(ExpectSame(reference, RunTrialGroup(*model, requests, options)));
}

// `--numerics fast` sums floats over ranks: on one rank, where nothing is summed, the bits are
// those of exact sums; on two they differ, and only a little. So each cut has an id of its own.
TEST(FastNumerics, HasAnIdOfItsOwnAndAddsFloatsOnlyAcrossRanks) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(Q4_1Spec(), folder.path()));
  const std::vector<rank::TrialRequest> requests = Requests(model->config(), /*batched=*/false);
  TrialGroupOptions options;
  options.keep_logits = true;
  const Observation exact = RunTrialGroup(*model, requests, options);
  options.numerics = forward::Numerics::kFast;
  const Observation alone = RunTrialGroup(*model, requests, options);
  options.cut.tensor_parallel = 2;
  const Observation shared = RunTrialGroup(*model, requests, options);
  EXPECT_NE(alone.numerics_id, exact.numerics_id);
  EXPECT_NE(alone.numerics_id, shared.numerics_id);
  EXPECT_EQ(alone.digests, exact.digests);
  EXPECT_NE(shared.digests, exact.digests);
  double error = 0;
  double size = 0;
  // Only the rows of prompts: their tokens are the same in both runs.
  for (const auto& [key, logits] : exact.logits) {
    if (key.second >= static_cast<int64_t>(requests[key.first].prompt.size())) continue;
    const std::vector<float>& others = shared.logits.at(key);
    for (size_t i = 0; i < logits.size(); ++i) {
      error += (logits[i] - others[i]) * (logits[i] - others[i]);
      size += logits[i] * logits[i];
    }
  }
  // Where a sum's last bits decide how an activation rounds, it becomes the next of 127 quants,
  // which moves a product by 1 %.
  EXPECT_LT(error, size * 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Models, ManyRows, ::testing::Values(NineHeadsSpec(), Int8Spec()),
                         [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(Models, OwnFormats, ::testing::Values(Int8Spec(), GroupsOf128Spec()),
                         [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(Models, Exactness, ::testing::ValuesIn(MatrixSpecs()),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return !std::isalnum(c); },
                               '_');
                           return name;
                         });

}  // namespace
}  // namespace shoal::test
