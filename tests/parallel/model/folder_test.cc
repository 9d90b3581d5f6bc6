#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "parallel/model/files/safetensors.h"
#include "parallel/model/model.h"
#include "tests/parallel/model/refusal.h"
#include "tests/support/scratch_folder.h"

// Folders with config.json and safetensors, right and wrong, and paths that are neither.

namespace shoal::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

ModelSpec FolderSpec() {
  ModelSpec spec = SmallSpec();
  spec.container = Container::kSafetensors;
  spec.dtype = DType::kBF16;
  return spec;
}

class Folder : public testing::Test {
 protected:
  Folder() : path_(WriteModel(FolderSpec(), scratch_.path())) {}

  std::string In(const std::string& file) const { return path_ + "/" + file; }
  std::unique_ptr<model::Model> Open() const { return model::Model::Open(path_); }
  std::string Refusal() const {
    return RefusalOf([&] { Open(); });
  }

  void SetConfig(const json& changes) const {
    json config = json::parse(MakeConfigJson(FolderSpec()));
    config.merge_patch(changes);
    WriteFile(In("config.json"), config.dump());
  }

  ScratchFolder scratch_;
  std::string path_;
};

TEST_F(Folder, ReadsOldAndNewNamesOfTheRopeSettings) {
  SetConfig({{"rope_theta", 77.0}, {"rope_scaling", nullptr}});
  EXPECT_EQ(Open()->config().rope.theta, 77.0);
  SetConfig({{"rope_theta", nullptr},
             {"torch_dtype", nullptr},
             {"dtype", "bfloat16"},
             {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 78.0}}}});
  EXPECT_EQ(Open()->config().rope.theta, 78.0);
  SetConfig({{"rope_scaling",
              {{"type", "llama3"},
               {"factor", 32},
               {"low_freq_factor", 1},
               {"high_freq_factor", 4},
               {"original_max_position_embeddings", 8192}}}});
  ASSERT_TRUE(Open()->config().rope.llama3.has_value());
  EXPECT_EQ(Open()->config().rope.llama3->factor, 32);
  EXPECT_EQ(Open()->config().rope.llama3->original_context_tokens, 8192);
}

TEST_F(Folder, DerivesTheHeadDimensionWhenItIsAbsent) {
  SetConfig({{"head_dim", nullptr}});
  EXPECT_EQ(Open()->config().head_dim, 16);
}

TEST_F(Folder, DividesPositionsByALinearFactor) {
  for (const json& change : std::vector<json>{
           {{"rope_scaling", {{"type", "linear"}, {"factor", 4}}}},
           {{"rope_scaling", {{"rope_type", "linear"}, {"type", "linear"}, {"factor", 4.0}}}},
           {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 10000}}}},
           {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 4}}},
            {"rope_scaling", {{"rope_type", "linear"}, {"factor", 4}}}}}) {
    SetConfig(change);
    EXPECT_EQ(Open()->config().rope.linear_factor, 4) << change;
  }
}

TEST_F(Folder, RefusesRopeSettingsThatContradictEachOther) {
  const std::pair<json, const char*> cases[] = {
      {{{"rope_scaling", {{"factor", 4}}}}, "a factor of 4 without a rope_type"},
      {{{"rope_scaling", {{"type", "default"}, {"factor", 4}}}}, "a factor of 4"},
      {{{"rope_scaling", {{"rope_type", "linear"}}}}, "\"factor\" is missing"},
      {{{"rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}}}, "scaling factor is 0"},
      {{{"rope_scaling", {{"rope_type", "linear"}, {"type", "dynamic"}, {"factor", 4}}}},
       "\"dynamic\""},
      {{{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4}}},
        {"rope_parameters", {{"rope_type", "default"}}}},
       "differ"},
      {{{"rope_parameters", {{"full_attention", {{"rope_theta", 1e6}}}}}}, "full_attention"}};
  for (const auto& [change, expected] : cases) {
    SetConfig(change);
    EXPECT_THAT(Refusal(), HasSubstr(expected)) << change;
  }
}

TEST_F(Folder, JoinsTheEosIdsOfAllItsFiles) {
  EXPECT_THAT(Open()->config().eos_ids, testing::ElementsAre(63));
  WriteFile(In("generation_config.json"), R"({"eos_token_id": [3, 5]})");
  EXPECT_THAT(Open()->config().eos_ids, testing::ElementsAre(63, 3, 5));
  WriteFile(In("tokenizer.json"),
            R"({"added_tokens": [{"id": 7, "content": "<|im_end|>", "special": true}],
                "model": {"vocab": {"stop": 9}}})");
  WriteFile(In("tokenizer_config.json"), R"({"eos_token": "stop"})");
  EXPECT_THAT(Open()->config().eos_ids, testing::ElementsAre(63, 3, 5, 9, 7));
  WriteFile(In("generation_config.json"), R"({"eos_token_id": 64})");
  EXPECT_THAT(Refusal(), HasSubstr("id 64 is outside"));
  WriteFile(In("generation_config.json"), R"({"eos_token_id": "x"})");
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("generation_config.json"), HasSubstr("eos_token_id")));
}

TEST_F(Folder, KeepsItsTemplateFileAndNotesOtherTemplates) {
  WriteFile(In("chat_template.jinja"), "{{ messages }}");
  std::filesystem::create_directory(In("additional_chat_templates"));
  WriteFile(In("additional_chat_templates/tool_use.jinja"), "");
  WriteFile(In("tokenizer_config.json"),
            R"({"chat_template": [{"name": "default", "template": "a"},
                                  {"name": "rag", "template": "b"}]})");
  const auto model = Open();
  EXPECT_EQ(model->metadata()["chat_template.jinja"], "{{ messages }}");
  EXPECT_THAT(model->notes(), testing::ElementsAre(HasSubstr("\"rag\", \"tool_use\"")));
}

TEST_F(Folder, NotesKeysThatItDoesNotKnow) {
  EXPECT_TRUE(Open()->notes().empty());
  SetConfig({{"somebodys_own", 3}, {"use_cache", true}});
  EXPECT_THAT(Open()->notes(), testing::ElementsAre(HasSubstr("\"somebodys_own\"")));
}

TEST_F(Folder, RefusesSettingsItWouldHaveToIgnore) {
  const json cases[] = {{{"attention_bias", true}},
                        {{"mlp_bias", true}},
                        {{"hidden_act", "gelu"}},
                        {{"rope_interleaved", true}},
                        {{"quantization_config", {{"bits", 4}}}},
                        {{"sliding_window", 4096}},
                        {{"partial_rotary_factor", 0.5}},
                        {{"torch_dtype", "float8_e4m3fn"}},
                        {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}}}},
                        {{"rope_parameters", {{"rope_type", "dynamic"}, {"factor", 4}}}},
                        {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
                        {{"attention_multiplier", 1}},
                        {{"architectures", {"LlamaForSequenceClassification"}}},
                        {{"layer_types", {"full_attention", "sliding_attention"}}},
                        {{"final_logit_softcapping", 30}},
                        {{"num_experts", 8}},
                        {{"model_type", "qwen2"}}};
  for (const json& change : cases) {
    SetConfig(change);
    EXPECT_THAT(Refusal(), AllOf(HasSubstr("config.json"), HasSubstr("support"))) << change;
  }
}

TEST_F(Folder, RefusesAConfigurationThatIsIncompleteOrWrong) {
  for (const char* key :
       {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "vocab_size", "rms_norm_eps", "max_position_embeddings"}) {
    SetConfig({{key, nullptr}});
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(key), HasSubstr("missing")));
    SetConfig({{key, -1}});
    EXPECT_THAT(Refusal(), AllOf(HasSubstr("config.json"), HasSubstr("-1"))) << key;
  }
  SetConfig({{"hidden_size", 1e300}});
  EXPECT_THAT(Refusal(), HasSubstr("hidden_size"));
  SetConfig({{"vocab_size", 100}});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("vocab_size is 100"), HasSubstr("64 rows")));
  SetConfig({{"num_key_value_heads", 2}});
  EXPECT_THAT(Refusal(), HasSubstr("self_attn.k_proj.weight"));
  SetConfig({{"head_dim", 15}});
  EXPECT_THAT(Refusal(), HasSubstr("rope needs an even one"));
  SetConfig({{"tie_word_embeddings", true}});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("tie_word_embeddings"), HasSubstr("lm_head.weight")));
}

TEST_F(Folder, RefusesBadJson) {
  for (const char* text :
       {"{", "[]", "{\"a\": 1, \"a\": 2}", "\xFF\xFE", "{\"hidden_size\": 1e999}"}) {
    WriteFile(In("config.json"), text);
    EXPECT_THAT(Refusal(), HasSubstr("config.json")) << text;
  }
  WriteFile(In("config.json"), std::string(100000, '['));
  EXPECT_THAT(Refusal(), HasSubstr("config.json"));
}

// The shards and the index of FolderSpec's model: layers in one file, the rest in the other.
void WriteShards(const std::string& folder, json index_changes) {
  std::vector<SafetensorsTensor> parts[2];
  json weight_map;
  for (SafetensorsTensor& tensor : MakeSafetensorsTensors(FolderSpec())) {
    const bool layer = tensor.name.starts_with("model.layers");
    weight_map[tensor.name] = layer ? "b.safetensors" : "a.safetensors";
    parts[layer ? 1 : 0].push_back(std::move(tensor));
  }
  weight_map.merge_patch(index_changes);
  std::filesystem::remove(folder + "/model.safetensors");
  WriteFile(folder + "/a.safetensors", SafetensorsBytes(parts[0]));
  WriteFile(folder + "/b.safetensors", SafetensorsBytes(parts[1]));
  WriteFile(folder + "/model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
}

TEST_F(Folder, OpensShards) {
  const int64_t weight_bytes = Open()->weight_bytes();
  WriteShards(path_, json::object());
  EXPECT_EQ(Open()->weight_bytes(), weight_bytes);
}

TEST_F(Folder, RefusesAnIndexThatDoesNotFitItsShards) {
  WriteShards(path_, {{"model.norm.weight", "b.safetensors"}});
  EXPECT_THAT(Refusal(), HasSubstr("\"model.norm.weight\" is in a.safetensors but not mapped"));
  WriteShards(path_, {{"extra", "b.safetensors"}});
  EXPECT_THAT(Refusal(), HasSubstr("maps 13 tensors, the files hold 12"));
  WriteShards(path_, {{"extra", "c.safetensors"}});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("c.safetensors"), HasSubstr("No such file")));
  WriteShards(path_, {{"extra", "../c.safetensors"}});
  EXPECT_THAT(Refusal(), HasSubstr("a file in this folder"));
  WriteShards(path_, {{"extra", 3}});
  EXPECT_THAT(Refusal(), HasSubstr("a file in this folder"));
}

TEST_F(Folder, NamesAMissingFile) {
  std::filesystem::remove(In("model.safetensors"));
  EXPECT_THAT(Refusal(), AllOf(HasSubstr(path_), HasSubstr("model.safetensors")));
  std::filesystem::remove(In("config.json"));
  EXPECT_THAT(Refusal(), HasSubstr("has no config.json"));
}

TEST_F(Folder, NamesAMissingOrExtraTensor) {
  std::vector<SafetensorsTensor> tensors = MakeSafetensorsTensors(FolderSpec());
  const SafetensorsTensor last = tensors.back();
  tensors.pop_back();
  WriteFile(In("model.safetensors"), SafetensorsBytes(tensors));
  EXPECT_THAT(Refusal(), HasSubstr("\"lm_head.weight\" is missing"));
  tensors.push_back(last);
  tensors.push_back({"model.layers.0.self_attn.q_proj.bias", "BF16", {32}, std::string(64, '\0')});
  WriteFile(In("model.safetensors"), SafetensorsBytes(tensors));
  EXPECT_THAT(Refusal(), HasSubstr("\"model.layers.0.self_attn.q_proj.bias\""));
}

TEST_F(Folder, TakesSettingsThatAskForNothing) {
  SetConfig({{"hidden_act", "swish"},
             {"sliding_window", nullptr},
             {"num_experts", 0},
             {"layer_types", {"full_attention"}},
             {"attention_multiplier", 0.25},
             {"pretraining_tp", 4},
             {"attention_dropout", 0.1}});
  EXPECT_NO_THROW(Open());
  EXPECT_TRUE(Open()->notes().empty());
}

TEST_F(Folder, TakesATiedHeadThatRepeatsTheEmbeddingAndRefusesAnother) {
  SetConfig({{"tie_word_embeddings", true}});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("differs from the embedding"), HasSubstr("set it to")));
  std::vector<SafetensorsTensor> tensors = MakeSafetensorsTensors(FolderSpec());
  ASSERT_EQ(tensors.back().name, "lm_head.weight");
  ASSERT_EQ(tensors.front().name, "model.embed_tokens.weight");
  tensors.back().data = tensors.front().data;
  WriteFile(In("model.safetensors"), SafetensorsBytes(tensors));
  const auto model = Open();
  EXPECT_EQ(model->tensors().output, model->tensors().token_embedding);
  EXPECT_THAT(model->notes(), testing::ElementsAre(HasSubstr("\"lm_head.weight\"")));
  tensors.pop_back();
  WriteFile(In("model.safetensors"), SafetensorsBytes(tensors));
  EXPECT_EQ(Open()->weight_bytes(), model->weight_bytes()) << "each weight counts once";
}

TEST_F(Folder, TakesFrequenciesThatWereSavedWithTheWeights) {
  std::vector<SafetensorsTensor> tensors = MakeSafetensorsTensors(FolderSpec());
  const std::string name = "model.layers.0.self_attn.rotary_emb.inv_freq";
  tensors.push_back({name, "F32", {8}, std::string(32, '\1')});
  WriteFile(In("model.safetensors"), SafetensorsBytes(tensors));
  const auto model = Open();
  ASSERT_EQ(model->tensors().stored_frequencies.size(), 1U);
  EXPECT_EQ(model->tensors().stored_frequencies[0]->name, name);
  EXPECT_THAT(model->notes(), testing::ElementsAre(HasSubstr("inv_freq")));
  tensors.back() = {name, "F32", {4}, std::string(16, '\1')};
  WriteFile(In("model.safetensors"), SafetensorsBytes(tensors));
  EXPECT_THAT(Refusal(), HasSubstr("1 rows of 4, the configuration implies 1 rows of 8"));
}

TEST(ModelOpen, RefusesPathsThatAreNoModel) {
  const ScratchFolder folder;
  const auto refusal = [](const std::string& path) {
    return RefusalOf([&] { model::Model::Open(path); });
  };
  EXPECT_THAT(refusal(folder.path() + "/absent.gguf"), HasSubstr("no such file or folder"));
  EXPECT_THAT(refusal(folder.path()), HasSubstr("has no config.json"));
  EXPECT_THAT(refusal("/dev/null"), HasSubstr("found neither"));
  EXPECT_THAT(refusal(""), HasSubstr("no such file or folder"));
  WriteFile(folder.path() + "/empty.gguf", "");
  EXPECT_THAT(refusal(folder.path() + "/empty.gguf"), HasSubstr("the file is empty"));
  WriteFile(folder.path() + "/text.gguf", "hello world");
  EXPECT_THAT(refusal(folder.path() + "/text.gguf"), HasSubstr("expected a GGUF file"));
}

std::string ParseRefusal(const std::string& bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  return RefusalOf(
      [&] { model::ParseSafetensors(std::as_bytes(std::span(exact)), "m.safetensors"); });
}

TEST(Safetensors, ReturnsTensorsInTheOrderOfTheirData) {
  const std::string bytes = SafetensorsBytes(
      R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},
          "z":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})",
      std::string(28, 'x'));
  const auto tensors = model::ParseSafetensors(std::as_bytes(std::span(bytes)), "m");
  ASSERT_EQ(tensors.size(), 2);
  EXPECT_EQ(tensors[0].name, "z");
  EXPECT_EQ(tensors[0].rows, 1);
  EXPECT_EQ(tensors[0].cols, 2);
  EXPECT_EQ(tensors[1].rows, 2);
  EXPECT_EQ(tensors[1].cols, 3);
  EXPECT_EQ(tensors[1].dtype, DType::kF32);
}

TEST(Safetensors, RefusesAFileThatEndsAnywhere) {
  const std::string bytes = SafetensorsBytes(MakeSafetensorsTensors(FolderSpec()));
  for (size_t size = 0; size < bytes.size(); size += size < 2000 ? 1 : 97) {
    ASSERT_THAT(ParseRefusal(bytes.substr(0, size)), HasSubstr("m.safetensors")) << size;
  }
}

TEST(Safetensors, RefusesAHeaderThatIsTooLong) {
  EXPECT_THAT(ParseRefusal(LittleEndian<uint64_t>(UINT64_MAX) + "{}"),
              HasSubstr("at most 8388608"));
  EXPECT_THAT(ParseRefusal(LittleEndian<uint64_t>(100) + "{}"), HasSubstr("truncated"));
}

TEST(Safetensors, RefusesTensorsThatOverlapOrLeaveHoles) {
  const auto two = [](int begin, int end) {
    return R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},
               "b":{"dtype":"F32","shape":[4],"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(end) + "]}}";
  };
  const std::string data(64, 'x');
  EXPECT_THAT(ParseRefusal(SafetensorsBytes(two(8, 24), data)), HasSubstr("\"b\" overlaps"));
  EXPECT_THAT(ParseRefusal(SafetensorsBytes(two(20, 36), data)), HasSubstr("leaves a hole"));
  EXPECT_THAT(ParseRefusal(SafetensorsBytes(two(16, 32), data)), HasSubstr("end at data byte 32"));
  EXPECT_THAT(ParseRefusal(SafetensorsBytes(two(16, 32), data.substr(0, 20))),
              HasSubstr("the file has only 20"));
  EXPECT_THAT(ParseRefusal(SafetensorsBytes(two(32, 16), data)), HasSubstr("data_offsets"));
}

TEST(Safetensors, RefusesADescriptionThatMakesNoSense) {
  const std::string data(16, 'x');
  for (const char* description :
       {"3", "{}", R"({"dtype":"F32","shape":[4]})", R"({"shape":[4],"data_offsets":[0,16]})",
        R"({"dtype":"F64","shape":[2],"data_offsets":[0,16]})",
        R"({"dtype":"F32","shape":[-4],"data_offsets":[0,16]})",
        R"({"dtype":"F32","shape":[4.0],"data_offsets":[0,16]})",
        R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})",
        R"({"dtype":"F32","shape":[],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[1,2,2],"data_offsets":[0,16]})",
        R"({"dtype":"F32","shape":[3],"data_offsets":[0,16]})",
        R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]})",
        R"({"dtype":"F32","shape":[4],"data_offsets":[0,16,32]})",
        R"({"dtype":"F32","shape":[4],"data_offsets":[0,16],"more":1})"}) {
    EXPECT_THAT(ParseRefusal(SafetensorsBytes(std::string("{\"a\":") + description + "}", data)),
                HasSubstr("\"a\""))
        << description;
  }
}

TEST(Safetensors, RefusesANameThatStandsTwiceAndAMisalignedTensor) {
  const std::string entry = R"("a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]})";
  EXPECT_THAT(ParseRefusal(SafetensorsBytes("{" + entry + "," + entry + "}", std::string(16, 'x'))),
              HasSubstr("stands twice"));
  std::string odd = "{" + entry + "}";
  odd.resize(odd.size() / 4 * 4 + 5, ' ');
  EXPECT_THAT(ParseRefusal(LittleEndian<uint64_t>(odd.size()) + odd + std::string(16, 'x')),
              HasSubstr("no multiple of its numbers' 4 bytes"));
}

TEST(ModelOpen, ReadsTheFixtures) {
  const char* fixtures = std::getenv("SHOAL_FIXTURES");
  if (fixtures == nullptr) {
    GTEST_SKIP() << "SHOAL_FIXTURES is not set";
  }
  const std::string tiny = std::string(fixtures) + "/tiny/";
  const auto llama = model::Model::Open(tiny + "llama");
  EXPECT_EQ(llama->config().rope.llama3->original_context_tokens, 8192);
  EXPECT_EQ(llama->tokenizer_source(), model::TokenizerSource::kTokenizerJson);
  EXPECT_EQ(llama->leaves().attention_leaf_count, 4);
  EXPECT_EQ(llama->leaves().mlp_leaf_count, 6);  // 352 in leaves of 64.
  const auto tied = model::Model::Open(tiny + "llama_tied/");
  EXPECT_EQ(tied->name(), "llama_tied");
  EXPECT_EQ(tied->tensors().output, tied->tensors().token_embedding);
  const auto v5 = model::Model::Open(tiny + "llama_v5_config");
  EXPECT_EQ(v5->config().rope.theta, 20000);
  EXPECT_EQ(v5->config().head_dim, 48);
  EXPECT_THAT(RefusalOf([&] { model::Model::Open(tiny + "qwen2"); }), HasSubstr("\"qwen2\""));
}

}  // namespace
}  // namespace shoal::test
