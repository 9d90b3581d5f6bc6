#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "parallel/model/open.h"
#include "tests/parallel/model/refusal.h"
#include "tests/support/scratch_folder.h"

// GGUF files that are wrong in one place each: all are refused, with words that help.

namespace shoal::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Refusal(const std::string& bytes) {
  // A copy of exactly this size, so that a sanitizer sees a read past the end.
  const std::vector<char> exact(bytes.begin(), bytes.end());
  return RefusalOf([&] { model::OpenGgufBytes(std::as_bytes(std::span(exact)), "dir/m.gguf"); });
}

std::string Refusal(const GgufFile& file) { return Refusal(file.Bytes()); }

GgufFile Small() { return MakeGgufFile(SmallSpec()); }

TEST(Gguf, OpensFromMemoryInBothVersions) {
  for (const uint32_t version : {2U, 3U}) {
    GgufFile file = Small();
    file.version = version;
    const std::string bytes = file.Bytes();
    const auto model = model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "dir/m.gguf");
    EXPECT_EQ(model->name(), "m");
    EXPECT_EQ(model->tensors().layers.size(), 1);
    EXPECT_EQ(model->tensors().layers[0][model::TensorRole::kGate].rows, 64);
    EXPECT_EQ(model->tensors().layers[0][model::TensorRole::kGate].cols, 32);
    const GgufTensor& gate = file.tensor("blk.0.ffn_gate.weight");
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(
                              model->tensors().layers[0][model::TensorRole::kGate].data),
                          gate.data.size()),
              gate.data);
  }
}

TEST(Gguf, HonoursTheAlignmentKey) {
  GgufFile file = Small();
  file.alignment = 4096;
  file.keys.emplace_back("general.alignment", GgufUint32(4096));
  const std::string bytes = file.Bytes();
  const auto model = model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m");
  EXPECT_EQ(
      (reinterpret_cast<const char*>(model->tensors().output_norm->data) - bytes.data()) % 4096, 0);
  file.value("general.alignment") = GgufUint32(48);
  EXPECT_THAT(Refusal(file), HasSubstr("power of two"));
}

TEST(Gguf, KeepsMetadataOfEveryType) {
  GgufFile file = Small();
  const auto add = [&](const char* key, uint32_t type, const std::string& bytes) {
    file.keys.emplace_back(key, LittleEndian(type) + bytes);
  };
  add("a.u8", 0, LittleEndian<uint8_t>(200));
  add("a.i8", 1, LittleEndian<int8_t>(-3));
  add("a.u16", 2, LittleEndian<uint16_t>(60000));
  add("a.i16", 3, LittleEndian<int16_t>(-300));
  add("a.i32", 5, LittleEndian<int32_t>(-70000));
  add("a.u64", 10, LittleEndian<uint64_t>(UINT64_MAX));
  add("a.i64", 11, LittleEndian<int64_t>(INT64_MIN));
  add("a.f64", 12, LittleEndian<double>(0.1));
  file.keys.emplace_back("a.bool", GgufBool(true));
  file.keys.emplace_back("a.strings", GgufStrings({"x", "\xFF"}));
  const std::string bytes = file.Bytes();
  const nlohmann::json metadata =
      model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m")->metadata();
  EXPECT_EQ(metadata["a.u8"], 200);
  EXPECT_EQ(metadata["a.i8"], -3);
  EXPECT_EQ(metadata["a.u16"], 60000);
  EXPECT_EQ(metadata["a.i16"], -300);
  EXPECT_EQ(metadata["a.i32"], -70000);
  EXPECT_EQ(metadata["a.u64"], UINT64_MAX);
  EXPECT_EQ(metadata["a.i64"], INT64_MIN);
  EXPECT_EQ(metadata["a.f64"], 0.1);
  EXPECT_EQ(metadata["a.bool"], true);
  EXPECT_EQ(metadata["a.strings"][1].get<std::string>(), "\xFF");
}

TEST(Gguf, RefusesAFileThatEndsAnywhere) {
  const GgufFile file = Small();
  const std::string bytes = file.Bytes();
  const size_t header_bytes = file.HeaderBytes().size();
  for (size_t size = 0; size < bytes.size() - 32; size += size < header_bytes ? 1 : 97) {
    const std::string message = Refusal(bytes.substr(0, size));
    ASSERT_THAT(message, AllOf(HasSubstr("dir/m.gguf"), HasSubstr("fetch"))) << size;
  }
}

TEST(Gguf, RefusesAnotherMagicNumberOrVersion) {
  GgufFile file = Small();
  file.magic = "GGML";
  EXPECT_THAT(Refusal(file), AllOf(HasSubstr("GGUF"), HasSubstr("pass a .gguf file")));
  file = Small();
  file.version = 1;
  EXPECT_THAT(Refusal(file), HasSubstr("version 1 is not supported"));
  file.version = 4;
  EXPECT_THAT(Refusal(file), HasSubstr("version 4 is not supported"));
  file.version = 0x03000000;
  EXPECT_THAT(Refusal(file), HasSubstr("big-endian"));
}

TEST(Gguf, RefusesAbsurdCountsBeforeAllocating) {
  for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 40, UINT64_MAX}) {
    GgufFile file = Small();
    file.tensor_count = count;
    EXPECT_THAT(Refusal(file), HasSubstr(std::to_string(count) + " tensors"));
    file = Small();
    file.key_count = count;
    EXPECT_THAT(Refusal(file), HasSubstr(std::to_string(count) + " metadata keys"));
    file = Small();
    file.keys.emplace_back(
        "a", LittleEndian<uint32_t>(9) + LittleEndian<uint32_t>(0) + LittleEndian<uint64_t>(count));
    EXPECT_THAT(Refusal(file), HasSubstr("array elements"));
    file = Small();
    file.keys.emplace_back("a", LittleEndian<uint32_t>(8) + LittleEndian<uint64_t>(count));
    EXPECT_THAT(Refusal(file), HasSubstr("truncated"));
  }
}

TEST(Gguf, RefusesArraysNestedWithoutEnd) {
  std::string value = LittleEndian<uint32_t>(9);
  for (int depth = 0; depth < 1000; ++depth) {
    value += LittleEndian<uint32_t>(9) + LittleEndian<uint64_t>(1);
  }
  GgufFile file = Small();
  file.keys.emplace_back("a", value);
  EXPECT_THAT(Refusal(file), HasSubstr("nests"));
}

TEST(Gguf, RefusesUnknownTypes) {
  GgufFile file = Small();
  file.keys.emplace_back("a", LittleEndian<uint32_t>(13));
  EXPECT_THAT(Refusal(file), HasSubstr("value type 13"));
  file = Small();
  file.tensor("blk.0.attn_q.weight").type = 11;
  EXPECT_THAT(Refusal(file), AllOf(HasSubstr("\"blk.0.attn_q.weight\""), HasSubstr("Q3_K"),
                                   HasSubstr("supported are")));
  file = Small();
  file.keys.emplace_back("a", LittleEndian<uint32_t>(7) + '\2');
  EXPECT_THAT(Refusal(file), HasSubstr("bool"));
}

TEST(Gguf, RefusesTensorsThatOverlap) {
  GgufFile file = Small();
  file.tensor("blk.0.attn_k.weight").offset = 0;
  EXPECT_THAT(Refusal(file), AllOf(HasSubstr("overlap"), HasSubstr("blk.0.attn_k.weight")));
}

TEST(Gguf, RefusesATensorPastTheEnd) {
  for (const uint64_t offset : {uint64_t{1} << 20, UINT64_MAX - 31}) {
    GgufFile file = Small();
    file.tensor("blk.0.attn_k.weight").offset = offset;
    EXPECT_THAT(Refusal(file), AllOf(HasSubstr("\"blk.0.attn_k.weight\" needs 288 bytes"),
                                     HasSubstr("cut short")));
  }
}

TEST(Gguf, RefusesAMisalignedTensor) {
  GgufFile file = Small();
  file.tensor("output_norm.weight").offset = 8;
  EXPECT_THAT(Refusal(file), HasSubstr("no multiple of the alignment 32"));
}

TEST(Gguf, RefusesNamesThatStandTwice) {
  GgufFile file = Small();
  file.tensors.push_back(file.tensors.back());
  EXPECT_THAT(Refusal(file), HasSubstr("stands twice"));
  file = Small();
  file.keys.push_back(file.keys.back());
  EXPECT_THAT(Refusal(file), HasSubstr("stands twice"));
}

TEST(Gguf, RefusesDimensionsThatAreZeroOrOverflow) {
  using Dimensions = std::vector<uint64_t>;
  for (const Dimensions& dimensions : {Dimensions{0, 32},
                                       {32, 0},
                                       {UINT64_MAX, 32},
                                       {uint64_t{1} << 63, 2},
                                       {32, UINT64_MAX},
                                       {uint64_t{1} << 31, 1},
                                       {2147483616, 2147483647},
                                       {32, 32, 0},
                                       {32, 32, 2},
                                       {},
                                       {1, 1, 1, 1, 1}}) {
    GgufFile file = Small();
    file.tensor("blk.0.attn_q.weight").dimensions = dimensions;
    EXPECT_THAT(Refusal(file), HasSubstr("blk.0.attn_q.weight"));
  }
}

TEST(Gguf, RefusesAQuantisedRowThatIsNoMultipleOfItsBlock) {
  GgufFile file = Small();
  file.tensor("blk.0.attn_q.weight").dimensions = {31, 32};
  EXPECT_THAT(Refusal(file), AllOf(HasSubstr("rows of 31"), HasSubstr("block of 32")));
}

TEST(Gguf, RefusesAnotherArchitecture) {
  GgufFile file = Small();
  file.value("general.architecture") = GgufString("mam\nba");
  EXPECT_THAT(Refusal(file), HasSubstr("\"mam\\x0aba\" is not supported, only \"llama\""));
  file.EraseKey("general.architecture");
  EXPECT_THAT(Refusal(file), HasSubstr("\"general.architecture\" is missing"));
}

using Keys = std::vector<std::pair<const char*, std::string>>;

GgufFile With(const Keys& keys) {
  GgufFile file = Small();
  for (const auto& [key, value] : keys) file.keys.emplace_back(key, value);
  return file;
}

TEST(Gguf, RefusesSettingsItWouldHaveToIgnore) {
  const Keys settings = {{"llama.rope.scaling.type", GgufString("yarn")},
                         {"llama.rope.scaling.attn_factor", GgufFloat32(2)},
                         {"llama.expert_count", GgufUint32(8)},
                         {"llama.expert_used_count", GgufUint32(2)},
                         {"llama.attention.causal", GgufBool(false)},
                         {"llama.attention.sliding_window", GgufUint32(4096)},
                         {"llama.use_parallel_residual", GgufBool(true)},
                         {"llama.tensor_data_layout", GgufString("somebody's")},
                         {"llama.pooling_type", GgufUint32(1)},
                         {"general.type", GgufString("adapter")},
                         {"general.quantization_version", GgufUint32(1)},
                         {"split.count", GgufUint32(2)},
                         {"llama.something.new", GgufUint32(0)}};
  for (const auto& setting : settings) {
    EXPECT_THAT(Refusal(With({setting})), HasSubstr(setting.first));
  }
  EXPECT_THAT(Refusal(With({{"llama.attention.sliding_window", GgufUint32(4096)}})),
              AllOf(HasSubstr("is \"4096\", supported is only 0"), HasSubstr("sees all before")));
}

TEST(Gguf, TakesSettingsThatAskForNothing) {
  const std::string bytes = With({{"llama.rope.scaling.attn_factor", GgufFloat32(1)},
                                  {"llama.rope.scaling.original_context_length", GgufUint32(4096)},
                                  {"llama.rope.scaling.finetuned", GgufBool(true)},
                                  {"llama.expert_count", GgufUint32(0)},
                                  {"llama.attention.causal", GgufBool(true)},
                                  {"llama.tensor_data_layout", GgufString("Meta AI original pth")},
                                  {"general.type", GgufString("model")},
                                  {"split.count", GgufUint32(1)},
                                  {"general.quantization_version", GgufUint32(2)}})
                                .Bytes();
  EXPECT_NO_THROW(model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m"));
}

// A factor without a type is linear, as in llama.cpp, which wrote the first such files.
TEST(Gguf, DividesPositionsByALinearFactor) {
  const std::pair<Keys, double> cases[] = {
      {{}, 1},
      {{{"llama.rope.scaling.factor", GgufFloat32(4)}}, 4},
      {{{"llama.rope.scale_linear", GgufFloat32(4)}}, 4},
      {{{"llama.rope.scaling.type", GgufString("linear")},
        {"llama.rope.scaling.factor", GgufFloat32(2.5)}},
       2.5},
      {{{"llama.rope.scaling.type", GgufString("none")},
        {"llama.rope.scaling.factor", GgufFloat32(4)}},
       1},
      {{{"llama.rope.scaling.factor", GgufFloat32(0)}}, 1},
      {{{"llama.rope.scaling.factor", GgufFloat32(8)}, {"llama.rope.scale_linear", GgufFloat32(8)}},
       8}};
  for (const auto& [keys, factor] : cases) {
    const std::string bytes = With(keys).Bytes();
    const auto model = model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m");
    EXPECT_EQ(model->config().rope.linear_factor, factor);
  }
  EXPECT_THAT(Refusal(With({{"llama.rope.scaling.factor", GgufFloat32(-2)}})),
              HasSubstr("rope scaling factor is -2"));
  EXPECT_THAT(Refusal(With({{"llama.rope.scaling.factor", GgufFloat32(2)},
                            {"llama.rope.scale_linear", GgufFloat32(4)}})),
              AllOf(HasSubstr("scaling.factor is 2"), HasSubstr("scale_linear is 4")));
}

TEST(Gguf, NotesTemplatesThatAreNotUsed) {
  const std::string bytes = With({{"tokenizer.chat_template.tool_use", GgufString("x")}}).Bytes();
  const auto model = model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m");
  EXPECT_THAT(model->notes(), testing::ElementsAre(HasSubstr("\"tool_use\"")));
}

TEST(Gguf, NamesAMissingOrIllTypedKey) {
  for (const char* key : {"llama.block_count", "llama.context_length", "llama.embedding_length",
                          "llama.feed_forward_length", "llama.attention.head_count",
                          "llama.attention.layer_norm_rms_epsilon"}) {
    GgufFile file = Small();
    file.value(key) = GgufString("3");
    EXPECT_THAT(Refusal(file), HasSubstr(key));
    file.EraseKey(key);
    EXPECT_THAT(Refusal(file), AllOf(HasSubstr(key), HasSubstr("missing")));
  }
}

TEST(Gguf, RefusesInconsistentSizes) {
  const std::tuple<const char*, std::string, const char*> cases[] = {
      {"llama.attention.head_count_kv", GgufUint32(0), "key/value head count is 0"},
      {"llama.attention.head_count_kv", GgufUint32(3), "cannot share 3"},
      {"llama.attention.head_count", GgufUint32(0), "head count is 0"},
      {"llama.attention.key_length", GgufUint32(0), "head dimension"},
      {"llama.attention.value_length", GgufUint32(8), "value_length"},
      {"llama.rope.dimension_count", GgufUint32(8), "dimension_count"},
      {"llama.block_count", GgufUint32(2), "\"blk.1.attn_norm.weight\" is missing"},
      {"llama.block_count", GgufUint32(0x7FFFFFFF), "\"blk.1.attn_norm.weight\" is missing"},
      {"llama.block_count", GgufUint32(0xFFFFFFFF), "llama.block_count"},
      {"llama.embedding_length", GgufUint32(64), "token_embd.weight"},
      {"llama.feed_forward_length", GgufUint32(128), "blk.0.ffn_gate.weight"},
      {"llama.attention.layer_norm_rms_epsilon", GgufFloat32(0), "epsilon"},
      {"llama.rope.freq_base", GgufFloat32(-1), "rope base"}};
  for (const auto& [key, value, expected] : cases) {
    GgufFile file = Small();
    file.value(key) = value;
    EXPECT_THAT(Refusal(file), HasSubstr(expected)) << key;
  }
  GgufFile file = Small();
  for (const char* key : {"llama.attention.key_length", "llama.attention.value_length",
                          "llama.rope.dimension_count"}) {
    file.value(key) = GgufUint32(15);
  }
  EXPECT_THAT(Refusal(file), HasSubstr("rope needs an even one"));
}

TEST(Gguf, RefusesAnEosTokenOutsideTheVocabulary) {
  GgufFile file = Small();
  file.keys.emplace_back("tokenizer.ggml.eos_token_id", GgufUint32(64));
  EXPECT_THAT(Refusal(file), HasSubstr("id 64 is outside the vocabulary of 64"));
}

TEST(Gguf, NamesAMissingTensor) {
  const std::vector<GgufTensor> tensors = Small().tensors;
  for (const GgufTensor& tensor : tensors) {
    if (tensor.name != "output.weight") {  // Without it, the embedding is the output head.
      GgufFile file = Small();
      file.EraseTensor(tensor.name);
      EXPECT_THAT(Refusal(file), HasSubstr("\"" + tensor.name + "\" is missing"));
    }
  }
}

TEST(Gguf, RefusesATensorThatHasNoPlace) {
  GgufFile file = Small();
  file.tensors.push_back({"blk.0.attn_q.bias", {32}, 0, std::string(128, '\0'), std::nullopt});
  EXPECT_THAT(Refusal(file), HasSubstr("\"blk.0.attn_q.bias\""));
}

TEST(Gguf, RefusesAWrongShape) {
  GgufFile file = Small();
  file.tensor("blk.0.attn_v.weight").dimensions = {32, 8};
  EXPECT_THAT(Refusal(file), AllOf(HasSubstr("\"blk.0.attn_v.weight\" has 8 rows of 32"),
                                   HasSubstr("16 rows of 32")));
}

TEST(Gguf, RefusesKQuantsWhoseRowsCutABlock) {
  GgufFile file = Small();
  file.tensor("blk.0.ffn_down.weight").type = 12;
  EXPECT_THAT(Refusal(file), AllOf(HasSubstr("\"blk.0.ffn_down.weight\" is Q4_K"),
                                   HasSubstr("block of 256"), HasSubstr("F16")));
}

TEST(Gguf, RefusesINT8RowsWhoseDotProductsMayNotFit) {
  GgufFile file = Small();
  GgufTensor& tensor = file.tensor("blk.0.ffn_down.weight");
  tensor.type = 0x53480003;
  tensor.dimensions = {(1 << 17) + 32, 32};
  EXPECT_THAT(Refusal(file), AllOf(HasSubstr("\"blk.0.ffn_down.weight\" is INT8"),
                                   HasSubstr("at most 131072"), HasSubstr("Q8_0")));
}

TEST(Gguf, RefusesAKQuantThatIsCutShort) {
  ModelSpec spec = SmallSpec();
  spec.ffn_dim = 512;
  spec.dtypes = {{"ffn_down.weight", DType::kQ5_K}};
  GgufFile file = MakeGgufFile(spec);
  // Its data becomes the file's last.
  std::swap(file.tensor("blk.0.ffn_down.weight"), file.tensors.back());
  const std::string bytes = file.Bytes();
  EXPECT_THAT(Refusal(bytes.substr(0, bytes.size() - 48)),
              AllOf(HasSubstr("\"blk.0.ffn_down.weight\" needs 11264 bytes"), HasSubstr("fetch")));
}

TEST(Gguf, RefusesRopeDivisorsThatAreNoPositiveNumbers) {
  GgufFile file = Small();
  file.tensors.push_back({"rope_freqs.weight", {8}, 0, std::string(32, '\0'), std::nullopt});
  EXPECT_THAT(Refusal(file), HasSubstr("rope_freqs.weight"));
}

// A leaf, and so a rank's cut, may lie inside a block of 256, but not inside a group.
TEST(Gguf, MakesLeavesOfGroupsNotOfBlocks) {
  ModelSpec spec = SmallSpec();
  spec.hidden_dim = 256;
  spec.head_count = 16;
  spec.ffn_dim = 512;
  for (const auto& [dtype, heads] : {std::pair{DType::kQ4_K, 2}, {DType::kQ6_K, 1}}) {
    spec.dtypes = {{"attn_output.weight", dtype}, {"ffn_down.weight", dtype}};
    const std::string bytes = MakeGgufFile(spec).Bytes();
    const auto model = model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m");
    EXPECT_EQ(model->leaves().heads_per_leaf, heads);
    EXPECT_EQ(model->leaves().mlp_leaf_width, 64);
  }
}

TEST(CheckScales, NamesTheRowOfAnInt8ScaleThatIsNotFinite) {
  ModelSpec spec = SmallSpec();
  spec.dtypes = {{"ffn_down.weight", DType::kINT8}};
  GgufFile file = MakeGgufFile(spec);
  const size_t row_bytes = 4 + static_cast<size_t>(spec.ffn_dim);
  file.tensor("blk.0.ffn_down.weight")
      .data.replace(5 * row_bytes, 4, LittleEndian<uint32_t>(0x7F800000));
  const std::string bytes = file.Bytes();
  const auto model = model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m");
  const model::Tensor& down = model->tensors().layers[0][model::TensorRole::kDown];
  EXPECT_NO_THROW(model::CheckScales(down, 0, 5));
  EXPECT_THAT(RefusalOf([&] { model::CheckScales(down, 2, 6, "m.gguf"); }),
              AllOf(HasSubstr("\"blk.0.ffn_down.weight\", row 5"), HasSubstr("infinite")));
}

TEST(CheckScales, NamesTensorRowAndBlockOfAScaleThatIsNotFinite) {
  ModelSpec spec = SmallSpec();
  for (const auto& [dtype, block_bytes, at] : {std::tuple{DType::kQ4_0, 18, 0},
                                               {DType::kQ8_0, 34, 0},
                                               {DType::kQ4_1, 20, 0},
                                               {DType::kQ4_1, 20, 2},
                                               {DType::kQ5_0, 22, 0},
                                               {DType::kQ5_1, 24, 0},
                                               {DType::kQ5_1, 24, 2},
                                               {DType::kIQ4_NL, 18, 0},
                                               {DType::kQ4_K, 144, 0},
                                               {DType::kQ4_K, 144, 2},
                                               {DType::kQ5_K, 176, 0},
                                               {DType::kQ5_K, 176, 2},
                                               {DType::kQ6_K, 210, 208}}) {
    // Rows of two blocks. Row 5, block 1.
    spec.dtypes = {{"ffn_down.weight", dtype}};
    spec.ffn_dim = 2 * BlockWeights(dtype);
    GgufFile file = MakeGgufFile(spec);
    const size_t place = static_cast<size_t>(block_bytes * 11 + at);
    file.tensor("blk.0.ffn_down.weight").data.replace(place, 2, LittleEndian<uint16_t>(0xFC00));
    const std::string bytes = file.Bytes();
    const auto model = model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m");
    const model::Tensor& down = model->tensors().layers[0][model::TensorRole::kDown];
    EXPECT_NO_THROW(model::CheckScales(down, 0, 5));
    EXPECT_NO_THROW(model::CheckScales(down, 6, down.rows));
    EXPECT_THAT(RefusalOf([&] { model::CheckScales(down, 2, 6, "m.gguf"); }),
                AllOf(HasSubstr("m.gguf"), HasSubstr("\"blk.0.ffn_down.weight\", row 5, block 1"),
                      HasSubstr(at != 2 ? "scale is infinite" : "minimum is infinite")));
  }
}

}  // namespace
}  // namespace shoal::test
