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

TEST_F(ModelTextTest, TakesAFileInPlaceOfTheModelsOwnTemplate) {
  const std::string model = Write("tokenizer.chat_template", "{{ x | urlize }}");
  const std::string file = folder_.path() + "/t.jinja";
  test::WriteFile(file, "{{ strftime_now('%Y') }}{{ messages[0].content }}");
  const ModelText text(model, {.chat_template = file, .unix_seconds = [] { return 0; }});
  const TextService service = text.Service();
  EXPECT_EQ(service.chat_refusal, "");
  EXPECT_EQ(service.encode_chat({{{"role", "user"}, {"content", "ab"}}}),
            service.tokenizer->Encode("1970ab", text::SpecialTokens::kPlainText));
}

TEST_F(ModelTextTest, NamesATemplateFileThatCannotBeUsed) {
  const std::string model = Write("tokenizer.chat_template", "{{ messages[0].content }}");
  const auto refusal = [&](const std::string& file) {
    try {
      const ModelText text(model, {.chat_template = file, .unix_seconds = {}});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  const std::string file = folder_.path() + "/t.jinja";
  EXPECT_THAT(refusal(file), HasSubstr(file + ": expected a file with a chat template"));
  EXPECT_THAT(refusal(folder_.path()), HasSubstr(": expected a file with a chat template"));
  test::WriteFile(file, "\n{{ x | urlize }}");
  EXPECT_THAT(refusal(file), HasSubstr(file + ": chat template, line 2: the filter 'urlize'"));
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
