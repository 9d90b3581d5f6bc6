#include "worker/forward/numerics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/format/half.h"
#include "kernels/math/rope_table.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"

// Rope frequencies of a configuration, and those that a folder holds as well.

namespace shoal::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(ModelRopeFrequencies, AreDividedByALinearFactor) {
  model::ModelConfig config;
  config.head_dim = 16;
  config.rope.theta = 500000;
  const std::vector<double> plain = forward::ModelRopeFrequencies(config);
  EXPECT_EQ(plain, math::RopeFrequencies(500000, 16));
  config.rope.linear_factor = 3;
  const std::vector<double> scaled = forward::ModelRopeFrequencies(config);
  for (size_t j = 0; j < plain.size(); ++j) EXPECT_EQ(scaled[j], plain[j] / 3);
}

TEST(NumericsId, TellsFastSumsOverOtherNumbersOfRanksApartAndExactOnesNot) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(Q4_1Spec(), folder.path()));
  const std::vector<double> frequencies = forward::ModelRopeFrequencies(model->config());
  const auto id = [&](forward::Numerics numerics, int32_t tensor_parallel) {
    return forward::NumericsId(*model, {1, 2}, KvDType::kF16, frequencies, numerics,
                               tensor_parallel);
  };
  using forward::Numerics;
  EXPECT_EQ(id(Numerics::kExact, 1), id(Numerics::kExact, 2));
  EXPECT_NE(id(Numerics::kFast, 1), id(Numerics::kFast, 2));
  EXPECT_NE(id(Numerics::kFast, 1), id(Numerics::kExact, 1));
}

// A model with the frequencies' tensor beside its weights, `changed` times what they should be.
std::string WriteWithFrequencies(DType dtype, double changed, const std::string& folder) {
  const ModelSpec spec = F32FolderSpec();
  const std::string path = WriteModel(spec, folder);
  std::vector<double> frequencies =
      forward::ModelRopeFrequencies(model::Model::Open(path)->config());
  frequencies[3] *= changed;
  std::string data;
  for (const double frequency : frequencies) {
    const auto value = static_cast<float>(frequency);
    data += dtype == DType::kF32   ? LittleEndian(value)
            : dtype == DType::kF16 ? LittleEndian(F32ToF16(value))
                                   : LittleEndian(F32ToBF16(value));
  }
  std::vector<SafetensorsTensor> tensors = MakeSafetensorsTensors(spec);
  tensors.push_back({"model.layers.1.self_attn.rotary_emb.inv_freq",
                     std::string(ToString(dtype)),
                     {spec.head_dim / 2},
                     data});
  WriteFile(path + "/model.safetensors", SafetensorsBytes(tensors));
  return path;
}

TEST(CheckStoredFrequencies, TakesRoundingAndRefusesOthersByName) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const ScratchFolder folder;
    const auto right = model::Model::Open(WriteWithFrequencies(dtype, 1, folder.path()));
    const std::vector<double> frequencies = forward::ModelRopeFrequencies(right->config());
    EXPECT_NO_THROW(forward::CheckStoredFrequencies(*right, frequencies)) << ToString(dtype);
    const ScratchFolder other;
    const auto wrong = model::Model::Open(WriteWithFrequencies(dtype, 1.02, other.path()));
    try {
      forward::CheckStoredFrequencies(*wrong, frequencies);
      ADD_FAILURE() << ToString(dtype);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("layers.1.self_attn.rotary_emb.inv_freq"),
                                      HasSubstr("at 3"), HasSubstr("rope_theta")));
    }
  }
}

}  // namespace
}  // namespace shoal::test
