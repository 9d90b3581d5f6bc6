#include "worker/tools/convert/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "parallel/comm/forked_group.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/patience.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"
#include "transport/base/error.h"
#include "worker/forward/rows/row_tile.h"
#include "worker/tools/convert/convert.h"

// Calibration: the balanced model computes the same function, and loses less when it is quantised.

namespace shoal::test {
namespace {

using model::LayerInput;
using rank::LayerChannels;

constexpr size_t Index(LayerInput input) { return static_cast<size_t>(input); }

ModelSpec GroupedF32Spec() {
  ModelSpec spec = NineHeadsSpec();
  spec.dtype = DType::kF32;
  spec.embedding_dtype = DType::kF32;
  return spec;
}

// Powers of two of very different sizes, alike for the query heads that share a value head.
std::vector<LayerChannels> UnevenFactors(const model::ModelConfig& config) {
  std::vector<LayerChannels> factors(static_cast<size_t>(config.layer_count));
  const auto factor = [](int64_t i) {
    return std::ldexp(1.0F, i % 37 == 5 ? 6 : static_cast<int>(i % 3) - 1);
  };
  const int64_t shared = config.head_count / config.kv_head_count;
  for (LayerChannels& channels : factors) {
    for (int64_t i = 0; i < config.hidden_dim; ++i) {
      channels[Index(LayerInput::kAttention)].push_back(factor(i));
      channels[Index(LayerInput::kMlp)].push_back(factor(i + 1));
    }
    for (int64_t i = 0; i < config.head_count * config.head_dim; ++i) {
      const int64_t kv_head = i / config.head_dim / shared;
      channels[Index(LayerInput::kAttentionOutput)].push_back(
          factor(kv_head * config.head_dim + i % config.head_dim));
    }
    for (int64_t i = 0; i < config.ffn_dim(0); ++i) {
      channels[Index(LayerInput::kDown)].push_back(factor(i));
    }
  }
  return factors;
}

// What a group of one rank meets in two prompts of which every row's logits are wanted.
struct Inputs {
  std::vector<LayerChannels> largest;
  int64_t rows_max = 0;  // That the sink was shown at once.
};

Inputs MeetInputs(const model::Model& model, int32_t threads) {
  std::vector<rank::TrialRequest> requests(2);
  for (int32_t i = 0; i < 150; ++i) {
    requests[0].prompt.push_back(i * 37 % 500);
    requests[1].prompt.push_back(i * 11 % 400);
  }
  for (rank::TrialRequest& request : requests) {
    request.params.sampling.temperature = 0;
    request.params.tokens_max = 3;
    request.params.prompt_logprobs = true;
  }
  const SteadyClock clock;
  const auto group = comm::MakeForkedShmGroup(1)->Join(0, Deadline::After(clock, kPatienceMs));
  device::ThreadTeam team(threads);
  rank::InputRanges ranges;
  Inputs met;
  std::mutex mutex;
  rank::GroupMemberOptions options;
  options.model.kv_block_count = 32;
  options.model.context_tokens = 256;
  options.model.on_input = [&, sink = ranges.sink()](int64_t layer, LayerInput input,
                                                     std::span<const float> values, int64_t cols) {
    sink(layer, input, values, cols);
    const std::lock_guard lock(mutex);
    met.rows_max = std::max(met.rows_max, static_cast<int64_t>(values.size()) / cols);
  };
  rank::GroupMember member(model, options, cpu::SelectKernelTable(cpu::DetectCpuFeatures(), ""),
                           team, clock, *group);
  rank::RunTrial(member, {.kv_block_count = 32, .context_tokens = 256}, requests);
  met.largest = ranges.largest();
  return met;
}

std::string DigestOf(const std::vector<LayerChannels>& layers) {
  std::string bytes;
  for (const LayerChannels& channels : layers) {
    for (const std::vector<float>& of_input : channels) {
      bytes.append(reinterpret_cast<const char*>(of_input.data()), of_input.size() * sizeof(float));
    }
  }
  return Str(XXH3_64bits(bytes.data(), bytes.size()));
}

class CalibrationTest : public testing::Test {
 protected:
  std::string Converted(const std::string& source, DType to, const std::string& name,
                        const std::vector<LayerChannels>& factors) {
    const std::string output = folder_.path() + "/" + name + ".gguf";
    rank::Convert(
        {.model = source, .output = output, .to = to, .factors = [&] { return factors; }});
    return output;
  }

  Observation Run(const std::string& path) const {
    rank::TrialRequest request;
    for (int32_t i = 0; i < 100; ++i) request.prompt.push_back(i * 37 % 500);
    request.params.sampling.temperature = 0;
    request.params.tokens_max = 4;
    request.params.prompt_logprobs = true;
    const auto model = model::Model::Open(path);
    return RunTrialGroup(*model, std::vector{request},
                         {.cut = {1, 1}, .kv_dtype = KvDType::kF32, .keep_logits = true});
  }

  // The root of the mean squared difference of all logits.
  double Distance(const std::string& path, const Observation& expected) const {
    const Observation found = Run(path);
    double sum = 0;
    int64_t count = 0;
    for (const auto& [key, logits] : expected.logits) {
      const auto other = found.logits.find(key);
      if (other == found.logits.end()) continue;  // Another token was chosen before.
      for (size_t i = 0; i < logits.size(); ++i) {
        sum += std::pow(double{logits[i]} - double{other->second[i]}, 2);
      }
      count += static_cast<int64_t>(logits.size());
    }
    EXPECT_GT(count, 0);
    return std::sqrt(sum / static_cast<double>(count));
  }

  ScratchFolder folder_;
};

TEST_F(CalibrationTest, FactorsOfTwoKeepEveryBitOfTheFunction) {
  const std::string source = WriteModel(GroupedF32Spec(), folder_.path());
  const auto factors = UnevenFactors(model::Model::Open(source)->config());
  const std::string balanced = Converted(source, DType::kF32, "balanced", factors);
  const Observation before = Run(source);
  const Observation after = Run(balanced);
  EXPECT_EQ(after.digests, before.digests);
  EXPECT_EQ(after.answers, before.answers);
  // Not because nothing was done.
  EXPECT_NE(after.numerics_id, before.numerics_id);
}

TEST_F(CalibrationTest, EvensOutChannelsOfDifferentSizesForInt8) {
  const std::string plain = WriteModel(GroupedF32Spec(), folder_.path());
  const auto uneven_factors = UnevenFactors(model::Model::Open(plain)->config());
  // The reader's weights shrink, and so the channels grow.
  std::vector<LayerChannels> inverse = uneven_factors;
  for (LayerChannels& channels : inverse) {
    for (std::vector<float>& factors : channels) {
      for (float& factor : factors) factor = 1 / factor;
    }
  }
  const std::string source = Converted(plain, DType::kF32, "uneven", inverse);
  const std::string text = folder_.path() + "/text";
  WriteFile(text, std::string(300, 'a') + "some other words, to be told apart");
  const Observation expected = Run(source);
  const double before = Distance(Converted(source, DType::kINT8, "int8", {}), expected);
  const double after = Distance(
      Converted(source, DType::kINT8, "calibrated", rank::Calibrate(source, text, 1)), expected);
  EXPECT_LT(after, 0.6 * before);
}

// Of many rows each thread shows the tiles that it takes through the layers, as it does in service.
TEST_F(CalibrationTest, MeetsTheSameInputsHoweverManyThreadsTakeTheRows) {
  const auto grouped = model::Model::Open(WriteModel(GroupedF32Spec(), folder_.path()));
  const auto int8 = model::Model::Open(WriteModel(Int8Spec(), folder_.path()));
  for (const int32_t threads : {1, 2, 3}) {
    const Inputs of_grouped = MeetInputs(*grouped, threads);
    EXPECT_EQ(DigestOf(of_grouped.largest), "10983365468310956712") << threads << " threads";
    EXPECT_LE(of_grouped.rows_max, forward::kTileRows) << threads << " threads";
    const Inputs of_int8 = MeetInputs(*int8, threads);
    EXPECT_EQ(DigestOf(of_int8.largest), "12650242192925046708") << threads << " threads";
    EXPECT_LE(of_int8.rows_max, forward::kTileRows) << threads << " threads";
  }
}

TEST_F(CalibrationTest, NamesATextThatIsMissing) {
  const std::string source = WriteModel(GroupedF32Spec(), folder_.path());
  try {
    rank::Calibrate(source, folder_.path() + "/none", 1);
    ADD_FAILURE() << "calibrated";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), testing::HasSubstr("/none"));
  }
}

TEST_F(CalibrationTest, FactorsFollowTheInputsAndAreSharedByHeads) {
  const auto model = model::Model::Open(WriteModel(GroupedF32Spec(), folder_.path()));
  const model::ModelConfig& config = model->config();
  std::vector<LayerChannels> largest = UnevenFactors(config);
  for (LayerChannels& channels : largest) {
    channels[Index(LayerInput::kMlp)][7] = 0;  // Never used.
    // Larger in one of the three heads that share it.
    channels[Index(LayerInput::kAttentionOutput)][config.head_dim + 4] = 4096;
  }
  const std::vector<LayerChannels> factors = rank::BalanceFactors(*model, largest);
  ASSERT_EQ(factors.size(), largest.size());
  for (const LayerChannels& channels : factors) {
    for (const std::vector<float>& of_input : channels) {
      double exponents = 0;
      for (const float factor : of_input) {
        EXPECT_EQ(factor, std::exp2(std::round(std::log2(factor))));
        exponents += std::log2(factor);
      }
      EXPECT_LT(std::fabs(exponents / static_cast<double>(of_input.size())), 0.5);
    }
    const std::vector<float>& mlp = channels[Index(LayerInput::kMlp)];
    EXPECT_EQ(mlp[7], 1);
    EXPECT_GE(mlp[4], 8 * mlp[5]);  // UnevenFactors' channel 4 + 1 is 32 times the others or more.
    const std::vector<float>& heads = channels[Index(LayerInput::kAttentionOutput)];
    EXPECT_EQ(heads[4], heads[config.head_dim + 4]);
    EXPECT_EQ(heads[4], heads[2 * config.head_dim + 4]);
    EXPECT_GT(heads[4], 8 * heads[3]);
  }
}

}  // namespace
}  // namespace shoal::test
