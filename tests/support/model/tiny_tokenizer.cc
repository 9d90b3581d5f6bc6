#include "tests/support/model/tiny_tokenizer.h"

#include <string>
#include <vector>

#include "transport/base/check.h"

// Every id must decode to something, so that text can be asked of a model that knows none.

namespace shoal::test {
namespace {

constexpr int64_t kByteCount = 256;
constexpr int64_t kSpecialCount = 3;
constexpr int64_t kLetterCount = 26;

// UTF-8 of a code point below U+0800.
std::string Utf8(uint32_t code_point) {
  if (code_point < 0x80) {
    return std::string(1, static_cast<char>(code_point));
  }
  return {static_cast<char>(0xC0U | (code_point >> 6)),
          static_cast<char>(0x80U | (code_point & 63U))};
}

// GPT-2's alphabet for bytes: printable ones stand for themselves, the others for U+0100 and on.
std::vector<std::string> ByteTokens() {
  std::vector<std::string> tokens;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < kByteCount; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    tokens.push_back(Utf8(printable ? byte : next++));
  }
  return tokens;
}

}  // namespace

void AddTinyTokenizer(int64_t vocab_size, GgufFile& file) {
  // Pairs, triples and quadruples.
  constexpr int64_t kMergesMax =
      kLetterCount * kLetterCount * (1 + kLetterCount * (1 + kLetterCount));
  const int64_t merge_count = vocab_size - kByteCount - kSpecialCount;
  SHOAL_CHECK(merge_count >= 0 && merge_count <= kMergesMax, "vocabulary of ", vocab_size);
  std::vector<std::string> tokens = ByteTokens();
  std::vector<std::string> merges;
  // Prefixes are the 26 letters, then what was made from them, in order.
  for (int64_t i = 0; i < merge_count; ++i) {
    const int64_t prefix = i / kLetterCount;
    const std::string left = prefix < kLetterCount
                                 ? std::string(1, static_cast<char>('a' + prefix))
                                 : tokens[static_cast<size_t>(kByteCount + prefix - kLetterCount)];
    const std::string right(1, static_cast<char>('a' + i % kLetterCount));
    merges.push_back(left + " " + right);
    tokens.push_back(left + right);
  }
  std::vector<int32_t> types(tokens.size(), 1);  // Normal.
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    tokens.emplace_back(special);
    types.push_back(3);  // Control.
  }
  file.keys.emplace_back("tokenizer.ggml.model", GgufString("gpt2"));
  file.keys.emplace_back("tokenizer.ggml.pre", GgufString("smollm"));
  file.keys.emplace_back("tokenizer.ggml.tokens", GgufStrings(tokens));
  file.keys.emplace_back("tokenizer.ggml.token_type", GgufInt32s(types));
  file.keys.emplace_back("tokenizer.ggml.merges", GgufStrings(merges));
  const auto last = static_cast<uint32_t>(vocab_size - 1);
  file.keys.emplace_back("tokenizer.ggml.bos_token_id", GgufUint32(last - 1));
  file.keys.emplace_back("tokenizer.ggml.eos_token_id", GgufUint32(last));
  file.keys.emplace_back("tokenizer.ggml.add_bos_token", GgufBool(false));
  file.keys.emplace_back("tokenizer.ggml.add_space_prefix", GgufBool(false));
  file.keys.emplace_back(
      "tokenizer.chat_template",
      GgufString("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
                 "message['content'] + '<|im_end|>\\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"));
}

}  // namespace shoal::test
