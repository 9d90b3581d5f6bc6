// A model's text side as it is opened for the gateways: what cannot be used keeps nothing else from
// being served.

#include "coordinator/gateway/text/model_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"

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

// A file system takes any bytes; JSON and metrics do not.
TEST_F(ModelTextTest, HasANameThatIsText) {
  test::GgufFile file = test::MakeGgufFile(test::Q4_1Spec());
  const std::string path = folder_.path() + "/caf\xE9 \xC3\xA9.gguf";
  test::WriteFile(path, file.Bytes());
  EXPECT_EQ(ModelText(path).name(), "caf\xEF\xBF\xBD \xC3\xA9");
}

}  // namespace
}  // namespace shoal::gateway
