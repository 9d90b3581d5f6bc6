// A model's text side as it is opened for the gateways: what cannot be used keeps nothing else from
// being served.

#include "coordinator/gateway/text/model_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;

class ModelTextTest : public ::testing::Test {
 protected:
  // A small model whose metadata key `key` holds `value`.
  std::string Write(const char* key, const std::string& value) const {
    test::GgufFile file = test::MakeGgufFile(test::Q4_1Spec());
    file.value(key) = test::GgufString(value);
    const std::string path = folder_.path() + "/m.gguf";
    test::WriteFile(path, file.Bytes());
    return path;
  }

  test::ScratchFolder folder_;
};

TEST_F(ModelTextTest, ServesTextWithoutATemplateThatIsNotSupported) {
  const ModelText text(Write("tokenizer.chat_template", "{{ x | urlize }}"));
  const TextService service = text.Service();
  ASSERT_NE(service.tokenizer, nullptr);
  EXPECT_FALSE(service.encode_chat);
  EXPECT_THAT(service.chat_refusal, HasSubstr("urlize"));
  EXPECT_EQ(service.tokenizer_refusal, "");
}

TEST_F(ModelTextTest, ServesIdsWithoutATokenizerThatIsNotSupported) {
  const ModelText text(Write("tokenizer.ggml.pre", "mystery"));
  const TextService service = text.Service();
  EXPECT_EQ(service.tokenizer, nullptr);
  EXPECT_FALSE(service.encode_chat);
  EXPECT_THAT(service.tokenizer_refusal, HasSubstr("mystery"));
  EXPECT_GT(service.vocab_size, 0);
}

TEST_F(ModelTextTest, ServesChatsWithATemplateThatIs) {
  const ModelText text(Write("tokenizer.chat_template", "{{ messages[0].content }}"));
  const TextService service = text.Service();
  EXPECT_EQ(service.encode_chat({{"messages", {{{"role", "user"}, {"content", "ab"}}}}}),
            service.tokenizer->Encode("ab", text::SpecialTokens::kPlainText));
}

TEST_F(ModelTextTest, ReadsCallsAndThoughtsAsTheTemplateHasThem) {
  const std::string path =
      Write("tokenizer.chat_template", "[TOOL_CALLS] <think> {{ messages[0].content }}");
  const ModelText by_template(path);
  EXPECT_EQ(by_template.Service().tool_format, text::ToolFormat::kMistral);
  EXPECT_EQ(by_template.Service().reasoning_begin, "<think>");
  EXPECT_EQ(by_template.Service().reasoning_end, "</think>");
  const ModelText by_flags(path, {.tool_format = "llama3", .reasoning_markers = "[a],[b]"});
  EXPECT_EQ(by_flags.Service().tool_format, text::ToolFormat::kLlama3);
  EXPECT_EQ(by_flags.Service().reasoning_begin, "[a]");
  EXPECT_EQ(by_flags.Service().reasoning_end, "[b]");
  const ModelText without(path, {.reasoning_markers = "none"});
  EXPECT_EQ(without.Service().reasoning_end, "");
}

TEST_F(ModelTextTest, RefusesSettingsThatMeanNothing) {
  const std::string path = Write("tokenizer.chat_template", "{{ messages[0].content }}");
  const std::pair<TextSettings, std::string> cases[] = {
      {{.tool_format = "xml"},
       "--tool-format is 'xml': expected one of hermes, llama3, mistral, deepseek, gemma"},
      {{.reasoning_markers = "<think>"}, "--reasoning-markers is '<think>': expected"},
      {{.reasoning_markers = ",</think>"}, "--reasoning-markers is"},
      {{.reasoning_markers = "a,b,c"}, "--reasoning-markers is"},
  };
  for (const auto& [settings, message] : cases) {
    try {
      const ModelText text(path, settings);
      ADD_FAILURE() << "taken: " << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  }
}

// The template has no tools: they are told of in the system's message, and the last message ends
// the prompt that is gone on with.
TEST_F(ModelTextTest, PutsToolsIntoThePrompt) {
  const std::string path = Write("tokenizer.chat_template",
                                 "{% for m in messages %}{{ m.role + ':' + m.content + '.' }}"
                                 "{% endfor %}{% if add_generation_prompt %}>{% endif %}");
  const ModelText text(path);
  const TextService service = text.Service();
  const auto decode = [&](const nlohmann::ordered_json& variables) {
    return service.tokenizer->Decode(service.encode_chat(variables), false);
  };
  nlohmann::ordered_json variables;
  variables["messages"] = {{{"role", "user"}, {"content", "hi"}},
                           {{"role", "assistant"}, {"content", "r. "}}};
  variables["tools"] = nlohmann::ordered_json::parse(R"([{"function":{"name":"look"}}])");
  EXPECT_THAT(decode(variables), testing::AllOf(testing::StartsWith("system:You may call"),
                                                HasSubstr("look"), testing::EndsWith("r. .>")));
  variables.erase("tools");
  variables["continue_final_message"] = true;
  variables["add_generation_prompt"] = false;
  EXPECT_EQ(decode(variables), "user:hi.assistant:r. ");
}

// A file system takes any bytes; JSON and metrics do not.
TEST_F(ModelTextTest, HasANameThatIsText) {
  test::GgufFile file = test::MakeGgufFile(test::Q4_1Spec());
  const std::string path = folder_.path() + "/caf\xE9 \xC3\xA9.gguf";
  test::WriteFile(path, file.Bytes());
  EXPECT_EQ(ModelText(path).name(), "caf\xEF\xBF\xBD \xC3\xA9");
}

}  // namespace
}  // namespace shoal::gateway
