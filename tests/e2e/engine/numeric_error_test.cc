// A number that leaves its range ends the sequence it belongs to, at the same layer and position
// for every cut and chunking, and nothing else in the batch notices.
//
// The models have seven hidden dimensions that are 0 in every row but those of a few marked tokens,
// because no layer writes to them. A huge weight that reads such a dimension concerns the marked
// token alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "kernels/math/scalar.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"

namespace shoal::test {
namespace {

constexpr int64_t kWholePrompt = 512;
constexpr int64_t kMarkedDims = 7;
constexpr int64_t kKeyLayer = 1;
constexpr int64_t kLeafLayer = 2;
constexpr int64_t kLayerCount = 4;
constexpr int64_t kLastLayer = kLayerCount - 1;
constexpr int32_t kLeafToken = 10;      // A leaf of layer 2's MLP exceeds its limit.
constexpr int32_t kKeyToken = 11;       // Keys of layer 1 do not fit f16.
constexpr int32_t kInfiniteToken = 12;  // The logit of token 200 is infinite.
constexpr int32_t kNanToken = 13;       // The logit of token 321 is NaN.
constexpr int32_t kLeadingToken = 14;   // Makes kLeafToken the likeliest.
constexpr int32_t kLastLeafToken = 15;  // As kLeafToken, in the last layer.
constexpr int32_t kLastKeyToken = 16;   // As kKeyToken, in the last layer.

ModelSpec Spec(DType dtype) {
  return {.name = std::string(ToString(dtype)),
          .dtype = dtype,
          .embedding_dtype = DType::kF32,
          .layer_count = kLayerCount,
          .hidden_dim = 96,
          .head_count = 6,
          .kv_head_count = 2,
          .head_dim = 32,
          .ffn_dim = 192,
          .vocab_size = 324,
          .context_tokens = 128,
          .seed = 21};
}

void SetFloat(GgufFile& file, const std::string& tensor, int64_t index, float value) {
  std::memcpy(file.tensor(tensor).data.data() + index * sizeof(value), &value, sizeof(value));
}

std::string WriteMarkedModel(const ModelSpec& spec, const std::string& folder) {
  GgufFile file = MakeGgufFile(spec);
  const int64_t hidden = spec.hidden_dim;
  const auto layer = [](int64_t index, const char* name) {
    return Str("blk.", index, ".", name, ".weight");
  };
  for (int64_t i = 0; i < spec.layer_count; ++i) {
    for (const char* name : {"attn_output", "ffn_down"}) {
      std::string& data = file.tensor(layer(i, name)).data;
      std::fill_n(data.begin(), data.size() / hidden * kMarkedDims, '\0');
    }
  }
  const auto embed = [&](int64_t token, int64_t dim, float value) {
    SetFloat(file, "token_embd.weight", token * hidden + dim, value);
  };
  const auto read_logit = [&](int64_t token, int64_t dim, float value) {
    SetFloat(file, "output.weight", token * hidden + dim, value);
  };
  for (int64_t dim = 0; dim < kMarkedDims; ++dim) {
    for (int64_t token = 0; token < spec.vocab_size; ++token) {
      embed(token, dim, 0);
      read_logit(token, dim, 0);
    }
  }
  for (int32_t token = kLeafToken; token <= kLastKeyToken; ++token) {
    // A logit of 0: ordinary sequences do not choose marked tokens.
    for (int64_t dim = 0; dim < hidden; ++dim) read_logit(token, dim, 0);
  }
  embed(kLeafToken, 0, 1);
  SetFloat(file, layer(kLeafLayer, "ffn_norm"), 0, 1e12F);

  embed(kKeyToken, 1, 1);
  SetFloat(file, layer(kKeyLayer, "attn_norm"), 1, 1e7F);

  for (const int64_t dim : {2, 3}) SetFloat(file, "output_norm.weight", dim, 1e30F);
  embed(kInfiniteToken, 2, 1);
  read_logit(200, 2, 1e30F);
  embed(kNanToken, 2, -1);
  embed(kNanToken, 3, 1);
  read_logit(200, 3, 0);
  read_logit(321, 2, -1e30F);
  read_logit(321, 3, -1e30F);

  embed(kLeadingToken, 4, 1);
  read_logit(kLeafToken, 4, 1000);

  embed(kLastLeafToken, 5, 1);
  SetFloat(file, layer(kLastLayer, "ffn_norm"), 5, 1e12F);
  embed(kLastKeyToken, 6, 1);
  SetFloat(file, layer(kLastLayer, "attn_norm"), 6, 1e7F);

  const std::string path = folder + "/" + spec.name + ".gguf";
  WriteFile(path, file.Bytes());
  return path;
}

struct Case {
  rank::TrialRequest request;
  std::string detail;  // Empty: it ends well.
};

// An ordinary prompt, apart from the marked tokens (position, token).
Case MakeCase(uint32_t index, int64_t length, std::vector<std::pair<int64_t, int32_t>> marked,
              std::string detail) {
  Case made{.request = {}, .detail = std::move(detail)};
  for (int64_t position = 0; position < length; ++position) {
    const auto words = math::Philox4x32({static_cast<uint32_t>(position), index, 0, 0}, {8, 0});
    made.request.prompt.push_back(20 + words[0] % 300);
  }
  for (const auto& [position, token] : marked) made.request.prompt[position] = token;
  made.request.params.sampling = {.temperature = 0.8, .seed = index};
  made.request.params.tokens_max = 20;
  made.request.arrival_step = index % 4;
  return made;
}

std::vector<Case> Cases() {
  std::vector<Case> cases = {
      MakeCase(0, 20, {}, ""),
      MakeCase(1, 20, {{9, kLeafToken}}, "layer 2, position 9"),
      MakeCase(2, 25, {}, ""),
      MakeCase(3, 11, {{0, kKeyToken}}, "layer 1, position 0"),
      MakeCase(4, 8, {{7, kInfiniteToken}}, "layer 4, position 7"),
      MakeCase(5, 8, {{3, kNanToken}}, ""),  // Nobody asks for that row's logits.
      // With a prompt's log-probabilities, logits and layers may fail in the same chunk.
      MakeCase(6, 20, {{3, kNanToken}, {6, kLeafToken}}, "layer 4, position 3"),
      MakeCase(7, 20, {{2, kLeafToken}, {5, kInfiniteToken}}, "layer 2, position 2"),
      MakeCase(8, 20, {{5, kLeafToken}, {8, kKeyToken}}, "layer 2, position 5"),
      MakeCase(9, 12, {{11, kLeadingToken}}, "layer 2, position 12"),
      MakeCase(10, 7, {{6, kNanToken}}, "layer 4, position 6"),
      MakeCase(11, 10, {{9, kNanToken}}, "layer 4, position 9"),
      MakeCase(12, 20, {{4, kInfiniteToken}, {19, kNanToken}}, "layer 4, position 4"),
      // In the last layer every row needs its keys, and only the last one a sum.
      MakeCase(13, 20, {{4, kLastLeafToken}}, ""),
      MakeCase(14, 20, {{19, kLastLeafToken}}, "layer 3, position 19"),
      MakeCase(15, 20, {{4, kLastLeafToken}, {6, kLastKeyToken}}, "layer 3, position 6"),
      MakeCase(16, 20, {{4, kLastLeafToken}, {6, kLastKeyToken}}, "layer 3, position 4"),
      MakeCase(17, 20, {{3, kLastKeyToken}, {19, kLeafToken}}, "layer 3, position 3"),
  };
  for (const size_t index : {0, 6, 7, 12, 16}) cases[index].request.params.prompt_logprobs = true;
  for (const size_t index : {2, 9, 11}) cases[index].request.params.sampling.temperature = 0;
  cases[2].request.params.top_logprobs = 3;
  cases[10].request.params.sampling.top_k = 5;
  return cases;
}

std::vector<rank::TrialRequest> RequestsOf(const std::vector<Case>& cases) {
  std::vector<rank::TrialRequest> requests;
  for (const Case& one : cases) requests.push_back(one.request);
  return requests;
}

void ExpectDetails(const std::vector<Case>& cases, const Observation& seen) {
  ASSERT_EQ(seen.answers.size(), cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const rank::TrialAnswer& answer = seen.answers[i];
    EXPECT_EQ(answer.detail, cases[i].detail) << "request " << i;
    const bool fails = !cases[i].detail.empty();
    EXPECT_EQ(answer.finish, fails ? FinishReason::kNumericError : FinishReason::kLength)
        << "request " << i;
  }
}

class NumericError : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    model_ = model::Model::Open(WriteMarkedModel(Spec(GetParam()), folder_.path()));
  }

  // Scalar kernels, one rank, one request after the other, whole prompts.
  Observation Alone(std::vector<rank::TrialRequest> requests) const {
    for (rank::TrialRequest& request : requests) request.arrival_step = INT64_MAX;
    TrialGroupOptions options;
    options.isa = {"scalar"};
    return RunTrialGroup(*model_, requests, options);
  }

  ScratchFolder folder_;
  std::unique_ptr<model::Model> model_;
};

TEST_P(NumericError, EndsTheSequenceAtTheSameLayerAndPositionForEveryCutAndChunk) {
  const std::vector<Case> cases = Cases();
  const std::vector<rank::TrialRequest> requests = RequestsOf(cases);
  const Observation alone = Alone(requests);
  ASSERT_NO_FATAL_FAILURE(ExpectDetails(cases, alone));
  EXPECT_EQ(alone.answers[9].tokens, std::vector<int32_t>{kLeafToken});
  TrialGroupOptions options;
  for (const int32_t tensor : {1, 2, 3}) {
    for (const int32_t pipeline : {1, 2}) {
      for (const int64_t chunk : {int64_t{1}, int64_t{7}, kWholePrompt}) {
        for (const bool record : {false, true}) {
          SCOPED_TRACE(Str("tensor ", tensor, ", pipeline ", pipeline, ", chunk ", chunk,
                           record ? ", all logits gathered" : ""));
          options.cut = {tensor, pipeline};
          options.prefill_chunk_tokens = chunk;
          options.record_logits = record;
          const Observation seen = RunTrialGroup(*model_, requests, options);
          ASSERT_NO_FATAL_FAILURE(ExpectDetails(cases, seen));
          for (size_t i = 0; i < cases.size(); ++i) {
            ASSERT_TRUE(alone.answers[i] == seen.answers[i]) << "request " << i;
          }
        }
      }
    }
  }
}

TEST_P(NumericError, LeavesTheLogitsOfOtherSequencesAlone) {
  std::vector<Case> cases = Cases();
  const Observation together = RunTrialGroup(*model_, RequestsOf(cases), {.cut = {3, 2}});
  for (size_t i = 0; i < cases.size(); ++i) {
    if (!cases[i].detail.empty()) continue;
    const Observation alone = Alone({cases[i].request});
    ASSERT_FALSE(alone.digests.empty());
    for (const auto& [key, digest] : alone.digests) {
      const auto found = together.digests.find({i, key.second});
      ASSERT_NE(found, together.digests.end()) << "request " << i << ", row " << key.second;
      ASSERT_EQ(found->second, digest) << "request " << i << ", row " << key.second;
    }
  }
}

TEST_P(NumericError, IsTheSameAfterPreemption) {
  const std::vector<Case> cases = Cases();
  TrialGroupOptions options;
  options.cut = {2, 2};
  options.kv_block_count = 3;
  options.prefill_chunk_tokens = 7;
  const Observation seen = RunTrialGroup(*model_, RequestsOf(cases), options);
  ASSERT_NO_FATAL_FAILURE(ExpectDetails(cases, seen));
  const Observation alone = Alone(RequestsOf(cases));
  for (size_t i = 0; i < cases.size(); ++i) {
    ASSERT_TRUE(alone.answers[i] == seen.answers[i]) << "request " << i;
  }
}

// Requests that arrive together share blocks before it is known that a row of them is bad.
TEST_P(NumericError, IsTheSameForRequestsThatShareBlocks) {
  std::vector<Case> cases;
  for (const auto& [position, token, detail] : {std::tuple(9, kLeafToken, "layer 2, position 9"),
                                                {40, kKeyToken, "layer 1, position 40"},
                                                {0, 20, ""}}) {
    for (int copy = 0; copy < 3; ++copy) {
      Case& made = cases.emplace_back(MakeCase(13, 50, {{position, token}}, detail));
      made.request.arrival_step = copy / 2;
      made.request.params.tokens_max = 5;
    }
  }
  const Observation alone = Alone(RequestsOf(cases));
  ASSERT_NO_FATAL_FAILURE(ExpectDetails(cases, alone));
  TrialGroupOptions options;
  options.prefix_cache = true;
  for (const int32_t pipeline : {1, 2}) {
    for (const int64_t chunk : {int64_t{7}, int64_t{24}, kWholePrompt}) {
      SCOPED_TRACE(Str("pipeline ", pipeline, ", chunk ", chunk));
      options.cut = {2, pipeline};
      options.prefill_chunk_tokens = chunk;
      const Observation seen = RunTrialGroup(*model_, RequestsOf(cases), options);
      for (size_t i = 0; i < cases.size(); ++i) {
        ASSERT_TRUE(alone.answers[i] == seen.answers[i])
            << "request " << i << ": " << seen.answers[i].detail;
      }
    }
  }
}

TEST_P(NumericError, IsOfTheCacheWhereAWiderOneHoldsTheKeys) {
  const std::vector<rank::TrialRequest> requests = {Cases()[3].request};
  for (const auto& [dtype, finish] : {std::pair(KvDType::kF16, FinishReason::kNumericError),
                                      std::pair(KvDType::kF32, FinishReason::kLength),
                                      std::pair(KvDType::kBF16, FinishReason::kLength)}) {
    TrialGroupOptions options;
    options.cut.tensor_parallel = 3;
    options.kv_dtype = dtype;
    EXPECT_EQ(RunTrialGroup(*model_, requests, options).answers[0].finish, finish);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, NumericError,
                         ::testing::Values(DType::kF32, DType::kQ8_0, DType::kQ4_1, DType::kINT8),
                         [](const auto& info) { return std::string(ToString(info.param)); });

}  // namespace
}  // namespace shoal::test
