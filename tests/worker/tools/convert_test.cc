#include "worker/tools/convert/convert.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "kernels/format/pack.h"
#include "parallel/model/model.h"
#include "parallel/model/resolve.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"
#include "worker/tools/convert/new_file.h"

// Models in, models out: what is kept, what is rounded, and that nothing half-written is left.

namespace shoal::test {
namespace {

namespace fs = std::filesystem;
using rank::Convert;
using rank::ConvertOptions;
using testing::AllOf;
using testing::HasSubstr;

class ConvertTest : public testing::Test {
 protected:
  std::string Output() const { return folder_.path() + "/out.gguf"; }

  std::unique_ptr<model::Model> Converted(const std::string& source, DType to) {
    fs::remove(Output());
    Convert({.model = source, .output = Output(), .to = to, .threads = 2});
    return model::Model::Open(Output());
  }

  // The words of the refusal, and that neither the file nor a part of it is there.
  std::string Refusal(const ConvertOptions& options, ErrorCode code) {
    const auto files_before = FileCount();
    std::string message;
    try {
      Convert(options);
      ADD_FAILURE() << "converted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      message = error.what();
    }
    EXPECT_EQ(FileCount(), files_before) << message;
    return message;
  }

  ScratchFolder folder_;

 private:
  int64_t FileCount() const {
    return std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator());
  }
};

std::vector<float> Row(const model::Tensor& tensor, int64_t row) {
  std::vector<float> values(static_cast<size_t>(tensor.cols));
  DequantizeRow(tensor.dtype, tensor.row(row), tensor.cols, values.data());
  return values;
}

TEST_F(ConvertTest, KeepsEveryBitInF32) {
  const std::string source = WriteModel(KQuantsSpec(), folder_.path());
  const auto before = model::Model::Open(source);
  const auto after = Converted(source, DType::kF32);
  EXPECT_EQ(after->metadata(), before->metadata());
  const auto expected = model::GgufTensors(before->tensors());
  const auto found = model::GgufTensors(after->tensors());
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].name, expected[i].name);
    EXPECT_EQ(found[i].tensor->dtype, DType::kF32);
    for (int64_t row = 0; row < expected[i].tensor->rows; ++row) {
      ASSERT_EQ(Row(*found[i].tensor, row), Row(*expected[i].tensor, row)) << found[i].name;
    }
  }
}

TEST_F(ConvertTest, GivesAFoldersModelInGgufsOrderOfRopeRows) {
  const ModelSpec spec = F32FolderSpec();
  const auto before = model::Model::Open(WriteModel(spec, folder_.path()));
  const auto after = Converted(before->path(), DType::kF32);
  const model::ModelConfig& config = after->config();
  EXPECT_EQ(config.layer_count, spec.layer_count);
  EXPECT_EQ(config.kv_head_count, spec.kv_head_count);
  EXPECT_EQ(config.rope.theta, spec.rope_theta);
  EXPECT_EQ(config.norm_epsilon, before->config().norm_epsilon);
  EXPECT_EQ(config.eos_ids, before->config().eos_ids);
  EXPECT_EQ(config.rope.layout, model::RopeLayout::kAdjacentPairs);
  EXPECT_EQ(config.rope.frequency_divisors.size(), static_cast<size_t>(spec.head_dim / 2));
  EXPECT_EQ(config.rope.frequency_divisors.front(), 1.0f);
  EXPECT_EQ(config.rope.frequency_divisors.back(), 8.0f);
  const model::Tensor& query_before = before->tensors().layers[1][model::TensorRole::kQuery];
  const model::Tensor& query_after = after->tensors().layers[1][model::TensorRole::kQuery];
  for (int64_t head = 0; head < spec.head_count; ++head) {
    for (int64_t j = 0; j < spec.head_dim / 2; ++j) {
      const int64_t first = head * spec.head_dim;
      ASSERT_EQ(Row(query_after, first + 2 * j), Row(query_before, first + j));
      ASSERT_EQ(Row(query_after, first + 2 * j + 1),
                Row(query_before, first + j + spec.head_dim / 2));
    }
  }
  EXPECT_EQ(Row(after->tensors().layers[1][model::TensorRole::kValue], 3),
            Row(before->tensors().layers[1][model::TensorRole::kValue], 3));
}

TEST_F(ConvertTest, KeepsTheWidthOfEachLayersMlp) {
  ModelSpec spec = F32FolderSpec();
  spec.ffn_dims = {512, 256, 384};
  const auto model = Converted(WriteModel(spec, folder_.path()), DType::kQ8_0);
  EXPECT_EQ(model->config().ffn_dims, spec.ffn_dims);
  EXPECT_EQ(model->tensors().layers[2][model::TensorRole::kDown].cols, 384);
}

TEST_F(ConvertTest, TakesAFoldersTokenizerAlong) {
  const std::string source = WriteModel(F32FolderSpec(), folder_.path());
  WriteFile(source + "/tokenizer.json", R"({"model": {"vocab": {"\u00e9": 1}}})");
  WriteFile(source + "/tokenizer_config.json", R"({"chat_template": "{{ messages }}"})");
  const auto before = model::Model::Open(source);
  // Once more from the GGUF file, which holds them as texts.
  const auto once = Converted(source, DType::kF16);
  const std::string second = folder_.path() + "/second.gguf";
  Convert({.model = Output(), .output = second, .to = DType::kQ8_0});
  const auto twice = model::Model::Open(second);
  for (const model::Model* model : {once.get(), twice.get()}) {
    EXPECT_EQ(model->tokenizer_source(), model::TokenizerSource::kTokenizerJson);
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
      EXPECT_EQ(model->metadata().at(file), before->metadata().at(file));
    }
  }
}

TEST_F(ConvertTest, TakesAFoldersSettingsAlong) {
  const std::string source = WriteModel(F32FolderSpec(), folder_.path());
  auto config = nlohmann::json::parse(MakeConfigJson(F32FolderSpec()));
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 4}};
  config["eos_token_id"] = {9, 7, 5, 3, 1};
  WriteFile(source + "/config.json", config.dump());
  WriteFile(source + "/tokenizer.json", R"({"model": {"vocab": {"a": 1}}})");
  WriteFile(source + "/chat_template.jinja", "{{ messages }}");
  const auto model = Converted(source, DType::kF16);
  EXPECT_EQ(model->config().rope.linear_factor, 4);
  EXPECT_EQ(model->config().eos_ids, (std::vector<int32_t>{9, 7, 5, 3, 1}));
  EXPECT_EQ(model->metadata().at("tokenizer.chat_template"), "{{ messages }}");
}

TEST_F(ConvertTest, RoundsMatricesToTheFormatAndNothingElse) {
  const std::string source = WriteModel(F32FolderSpec(), folder_.path());
  for (const DType to : {DType::kQ8_0, DType::kQ4_0, DType::kIQ4_NL, DType::kQ8_G128}) {
    const auto model = Converted(source, to);
    EXPECT_EQ(model->tensors().layers[0][model::TensorRole::kDown].dtype, to);
    EXPECT_EQ(model->tensors().layers[0][model::TensorRole::kMlpNorm].dtype, DType::kF32);
    EXPECT_EQ(model->tensors().token_embedding->dtype, DType::kQ8_0);
    EXPECT_EQ(model->tensors().output->dtype, DType::kQ8_0);
  }
  // Rows of 128 are no blocks of 256; those of the down projection, 512 wide, are.
  const auto model = Converted(source, DType::kQ4_K);
  EXPECT_EQ(model->tensors().layers[0][model::TensorRole::kQuery].dtype, DType::kQ5_0);
  EXPECT_EQ(model->tensors().layers[0][model::TensorRole::kDown].dtype, DType::kQ4_K);
}

TEST(FormatOf, FallsBackToMoreBitsWhereBlocksDoNotFit) {
  EXPECT_EQ(rank::FormatOf(DType::kQ4_K, 512, false), DType::kQ4_K);
  EXPECT_EQ(rank::FormatOf(DType::kQ4_K, 576, false), DType::kQ5_0);
  EXPECT_EQ(rank::FormatOf(DType::kQ5_K, 576, false), DType::kQ5_1);
  EXPECT_EQ(rank::FormatOf(DType::kQ6_K, 576, false), DType::kQ8_0);
  EXPECT_EQ(rank::FormatOf(DType::kQ4_K, 520, false), DType::kF16);
  EXPECT_EQ(rank::FormatOf(DType::kQ4_0, 64, true), DType::kQ8_0);
  EXPECT_EQ(rank::FormatOf(DType::kF32, 520, true), DType::kF32);
  EXPECT_EQ(rank::FormatOf(DType::kQ4_G128, 576, false), DType::kQ4_0);
  EXPECT_EQ(rank::FormatOf(DType::kQ8_G128, 576, false), DType::kQ8_0);
  EXPECT_EQ(rank::FormatOf(DType::kINT8, 576, true), DType::kINT8);
}

TEST_F(ConvertTest, RefusesAnOutputThatExistsAndAFolderThatDoesNot) {
  const std::string source = WriteModel(Q4_0Spec(), folder_.path());
  EXPECT_THAT(Refusal({.model = source, .output = source}, ErrorCode::kInvalidArgument),
              AllOf(HasSubstr(source), HasSubstr("exists"), HasSubstr("remove")));
  EXPECT_THAT(Refusal({.model = source, .output = folder_.path() + "/no/out.gguf"},
                      ErrorCode::kInvalidArgument),
              AllOf(HasSubstr("/no/out.gguf"), HasSubstr("folder")));
}

TEST_F(ConvertTest, RefusesAWeightThatIsNoNumberByTensorAndRow) {
  ModelSpec spec = Q4_0Spec();
  spec.dtype = DType::kF32;
  GgufFile file = MakeGgufFile(spec);
  const size_t place = (5 * static_cast<size_t>(spec.ffn_dim) + 7) * 4;
  file.tensor("blk.1.ffn_down.weight").data.replace(place, 4, LittleEndian(0x7FC00000U));
  const std::string source = folder_.path() + "/nan.gguf";
  WriteFile(source, file.Bytes());
  EXPECT_THAT(Refusal({.model = source, .output = Output()}, ErrorCode::kInvalidArgument),
              AllOf(HasSubstr("nan.gguf"), HasSubstr("\"blk.1.ffn_down.weight\", row 5")));
}

// The limit on a file's size stands for a disk that is full.
TEST_F(ConvertTest, LeavesNothingWhereTheDiskIsFull) {
  const std::string source = WriteModel(Q4_0Spec(), folder_.path());
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit low = {.rlim_cur = 100'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  const std::string message = Refusal({.model = source, .output = Output()}, ErrorCode::kFailed);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, AllOf(HasSubstr("out.gguf"), HasSubstr("bytes"), HasSubstr("free space")));
}

TEST(NewFile, LeavesNothingWhenTheProgramIsKilled) {
  const ScratchFolder folder;
  const int unnamed = open(folder.path().c_str(), O_WRONLY | O_TMPFILE, 0666);
  if (unnamed < 0) GTEST_SKIP() << folder.path() << " cannot hold files without names";
  close(unnamed);
  const pid_t child = fork();
  if (child == 0) {
    rank::NewFile file(folder.path() + "/out", 3);
    file.Write(std::as_bytes(std::span("abc", 3)));
    std::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  rank::NewFile file(folder.path() + "/out", 3);
  file.Write(std::as_bytes(std::span("abc", 3)));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  file.Commit();
  EXPECT_EQ(fs::file_size(folder.path() + "/out"), 3U);
}

}  // namespace
}  // namespace shoal::test
