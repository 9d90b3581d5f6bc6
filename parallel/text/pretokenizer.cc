// PCRE2 with its just-in-time compiler runs the expressions. Text is checked for ill-formed UTF-8
// once, here, so that the matches need not check it again.

#define PCRE2_CODE_UNIT_WIDTH 8

#include "parallel/text/pretokenizer.h"

#include <pcre2.h>

#include "parallel/text/pattern.h"
#include "parallel/text/utf8.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

// Real expressions need a few steps for each byte and go back over a run of spaces once; the limit
// is for those that a hostile file brings. It bounds one match.
constexpr uint32_t kMatchLimit = 100'000'000;
// PCRE2's machine-code stack starts with 32 KiB; expressions that need more than this are refused.
constexpr size_t kJitStackBytesMax = 1 << 20;

std::string PcreMessage(int code) {
  PCRE2_UCHAR8 buffer[256];
  pcre2_get_error_message_8(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};

}  // namespace

class PreTokenizer::Expression {
 public:
  explicit Expression(const SplitRule& rule) : rule_(rule) {
    const std::string pattern = PcrePattern(rule.pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(pattern.data()), pattern.size(),
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &error, &offset, nullptr));
    if (code_ == nullptr) {
      Throw(ErrorCode::kInvalidArgument, "pre-tokenizer expression ", rule.pattern, ": byte ",
            offset, ": ", PcreMessage(error));
    }
    error = pcre2_jit_compile_8(code_.get(), PCRE2_JIT_COMPLETE);
    if (error == PCRE2_ERROR_JIT_BADOPTION) {
      Throw(ErrorCode::kFailed, "the PCRE2 library has no just-in-time compiler; ",
            "install one that was built with JIT");
    }
    if (error != 0) {
      Throw(ErrorCode::kInvalidArgument, "pre-tokenizer expression ", rule.pattern,
            ": PCRE2 cannot compile it to machine code: ", PcreMessage(error));
    }
  }

  // Appends the pieces of well-formed `text`.
  void Split(std::string_view text, std::vector<std::string_view>& pieces) const {
    const std::unique_ptr<pcre2_match_data_8, Free<pcre2_match_data_free_8>> data(
        pcre2_match_data_create_8(1, nullptr));
    const std::unique_ptr<pcre2_match_context_8, Free<pcre2_match_context_free_8>> context(
        pcre2_match_context_create_8(nullptr));
    const std::unique_ptr<pcre2_jit_stack_8, Free<pcre2_jit_stack_free_8>> stack(
        pcre2_jit_stack_create_8(32 << 10, kJitStackBytesMax, nullptr));
    SHOAL_CHECK(data != nullptr && context != nullptr && stack != nullptr, "out of memory");
    pcre2_set_match_limit_8(context.get(), kMatchLimit);
    pcre2_jit_stack_assign_8(context.get(), nullptr, stack.get());

    const auto* subject = reinterpret_cast<PCRE2_SPTR8>(text.data());
    size_t done = 0;
    while (done < text.size()) {
      const int found =
          pcre2_jit_match_8(code_.get(), subject, text.size(), done,
                            PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data.get(), context.get());
      if (found == PCRE2_ERROR_NOMATCH) break;
      if (found < 0) {
        Throw(ErrorCode::kInvalidArgument, "pre-tokenizer expression ", rule_.pattern, ": ",
              PcreMessage(found), " at byte ", done, " of a text of ", text.size(),
              " bytes; send a shorter text");
      }
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer_8(data.get());
      if (rule_.keep_gaps && range[0] > done) pieces.push_back(text.substr(done, range[0] - done));
      if (rule_.keep_matches) pieces.push_back(text.substr(range[0], range[1] - range[0]));
      done = range[1];
    }
    if (rule_.keep_gaps && done < text.size()) pieces.push_back(text.substr(done));
  }

 private:
  const SplitRule rule_;
  std::unique_ptr<pcre2_code_8, Free<pcre2_code_free_8>> code_;
};

PreTokenizer::PreTokenizer(const std::vector<SplitRule>& rules) {
  for (const SplitRule& rule : rules) expressions_.push_back(std::make_unique<Expression>(rule));
}

PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::SplitWellFormed(std::string_view text, Pieces& pieces, Pieces& scratch) const {
  pieces.assign(1, text);
  for (const auto& expression : expressions_) {
    scratch.clear();
    for (const std::string_view piece : pieces) expression->Split(piece, scratch);
    pieces.swap(scratch);
  }
}

void PreTokenizer::Split(std::string_view text,
                         const std::function<void(std::string_view)>& emit) const {
  Pieces pieces;
  Pieces scratch;
  const auto emit_run = [&](std::string_view run) {
    if (run.empty()) return;
    SplitWellFormed(run, pieces, scratch);
    for (const std::string_view piece : pieces) emit(piece);
  };
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = DecodeUtf8(text.substr(at));
    if (step.kind != Utf8Step::Kind::kCharacter) {
      emit_run(text.substr(begin, at - begin));
      for (size_t i = 0; i < step.length; ++i) emit(text.substr(at + i, 1));
      begin = at + step.length;
    }
    at += step.length;
  }
  emit_run(text.substr(begin));
}

}  // namespace shoal::text
