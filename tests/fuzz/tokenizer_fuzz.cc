// Tokenizer files, chat templates and text: the first byte of an input chooses which of them the
// rest is. Whatever is accepted must also encode and decode without a crash.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "parallel/model/model.h"
#include "parallel/text/chat_template.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

using model::TokenizerSource;
using text::ChatTemplate;
using text::SpecialTokens;
using text::Tokenizer;

constexpr char kTokenizerFile[] =
    R"j({"added_tokens":[{"id":4,"content":"<s>","special":true,"lstrip":true,"rstrip":true},)j"
    R"j({"id":5,"content":"<u>","normalized":true}],"normalizer":null,"pre_tokenizer":{"type":)j"
    R"j("Sequence","pretokenizers":[{"type":"Split",)j"
    R"j("pattern":{"Regex":"\\p{N}{1,3}|\\s+(?!\\S)"},)j"
    R"j("behavior":"Isolated","invert":false},{"type":"Digits","individual_digits":true},)j"
    R"j({"type":"ByteLevel","add_prefix_space":false,"use_regex":true}]},"post_processor":)j"
    R"j({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},)j"
    R"j({"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[4]}}},)j"
    R"j("model":{"type":"BPE","ignore_merges":true,"byte_fallback":false,"vocab":)j"
    R"j({"a":0,"b":1,"ab":2,"Ã":3},"merges":[["a","b"]]}})j";

constexpr char kSentencePieceFile[] =
    R"j({"added_tokens":[{"id":0,"content":"<s>","special":true,"normalized":true}],)j"
    R"j("normalizer":)j"
    R"j({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},)j"
    R"j({"type":"Replace",)j"
    R"j("pattern":{"String":" "},"content":"\u2581"}]},"pre_tokenizer":{"type":"Split","pattern":)j"
    R"j({"String":" "},"behavior":"MergedWithPrevious"},"decoder":{"type":"Sequence","decoders":[)j"
    R"j({"type":"Replace","pattern":{"String":"\u2581"},"content":" "},)j"
    R"j({"type":"ByteFallback"},)j"
    R"j({"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},"model":)j"
    R"j({"type":"BPE",)j"
    R"j("byte_fallback":true,"fuse_unk":true,"unk_token":"<u>","vocab":)j"
    R"j({"<s>":0,"<u>":1,"a":2,)j"
    R"j("b":3,"ab":4,"\u2581":5,"<0xC3>":6,"<0xA9>":7},"merges":["a b"]}})j";

constexpr char kWordPieceFile[] =
    R"j({"added_tokens":[{"id":0,"content":"<u>","special":true}],"normalizer":)j"
    R"j({"type":)j"
    R"j("BertNormalizer","strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":)j"
    R"j("BertPreTokenizer"},"post_processor":)j"
    R"j({"type":"BertProcessing","sep":["s",2],"cls":["c",1]},)j"
    R"j("decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece",)j"
    R"j("unk_token":"<u>","max_input_chars_per_word":9,"vocab":{"<u>":0,"a":1,"##b":2,"##a":3}}})j";

constexpr char kTemplate[] =
    "{%- macro f(x, n=2) %}[{{ x | trim }}:{{ n }}]{% endmacro -%}\n"
    "{% set ns = namespace(n=0) %}{% for m in messages if m.role != 'tool' %}\n"
    "  {{- f(m.content, n=loop.index) }}{% set ns.n = ns.n + m['content'] | length %}\n"
    "{% else %}none{% endfor %}{{ ns.n // 2 }} {{ messages[::-1] | map(attribute='role') | list "
    "}}\n"
    "{{ tools | tojson(indent=2) if tools is defined and tools else '-' ~ 'x'.split('x')[0] }}";

void EncodeAndDecode(const Tokenizer& tokenizer, std::string_view text) {
  for (const auto special : {SpecialTokens::kRecognized, SpecialTokens::kPlainText}) {
    const auto ids = tokenizer.Encode(text, special);
    tokenizer.Decode(ids, true);
    for (const int32_t id : ids) SHOAL_CHECK(id >= 0 && id < tokenizer.vocab_size(), "id ", id);
  }
}

std::unique_ptr<Tokenizer> MakeTokenizer(nlohmann::json file) {
  nlohmann::json metadata;
  metadata["tokenizer.json"] = std::move(file);
  return Tokenizer::FromMetadata(metadata, TokenizerSource::kTokenizerJson);
}

void Run(char kind, std::string_view input) {
  if (kind == 'j') {
    auto file = nlohmann::json::parse(input, nullptr, false);
    if (file.is_discarded()) return;
    EncodeAndDecode(*MakeTokenizer(std::move(file)), "<s> ab12 \n <u>\xC3\xA9\xFF aab");
  } else if (kind == 't') {
    const auto parsed = ChatTemplate::Parse(std::string(input));
    parsed->Render({{"messages", {{{"role", "user"}, {"content", " hi \xC3\xA9"}}}},
                    {"tools", {{{"name", "f"}, {"n", 1.5}}}},
                    {"bos_token", "<s>"}});
  } else {
    EncodeAndDecode(*MakeTokenizer(nlohmann::json::parse(kTokenizerFile)), input);
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {std::string("j") + kTokenizerFile, std::string("j") + kSentencePieceFile,
          std::string("j") + kWordPieceFile, std::string("t") + kTemplate,
          "x<s> ab12 \n <u>\xC3\xA9\xFF aab \xF0\x9F\x98"};
}

}  // namespace shoal::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    shoal::test::Run(input[0], input.substr(1));
  } catch (const shoal::Error& error) {
    // A refusal is the expected outcome; an error of another kind is a finding.
    if (error.code() != shoal::ErrorCode::kInvalidArgument) throw;
  }
  return 0;
}
