// PCRE2 with its just-in-time compiler runs the expressions. Text is checked for ill-formed UTF-8
// once, here, so that the matches need not check it again.

#define PCRE2_CODE_UNIT_WIDTH 8

#include "parallel/text/tokenizer/pretokenizer.h"

#include <pcre2.h>

#include <new>

#include "parallel/text/tokenizer/pattern.h"
#include "parallel/text/utf8.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

// Real expressions need a few steps for each byte and go back over a run of spaces once; the limit
// is for those that a hostile file brings. It bounds one match.
constexpr uint32_t kMatchLimit = 100'000'000;
// Sizes of the stack for PCRE2's machine code. An expression that needs more than the maximum is
// refused.
constexpr size_t kJitStackBytesMin = 32 << 10;
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

template <typename T, auto kFree>
using Owned = std::unique_ptr<T, Free<kFree>>;

// PCRE2 takes its memory from here.
void* Allocate(PCRE2_SIZE bytes, void*) { return ::operator new(bytes, std::nothrow); }
void Release(void* memory, void*) { ::operator delete(memory); }

}  // namespace

struct PreTokenizer::Scratch::Parts {
  struct Segment {
    std::string_view text;
    bool is_match;
  };

  Parts() {
    SHOAL_CHECK(general != nullptr && data != nullptr && context != nullptr && stack != nullptr,
                "out of memory");
    pcre2_set_match_limit_8(context.get(), kMatchLimit);
    pcre2_jit_stack_assign_8(context.get(), nullptr, stack.get());
  }

  const Owned<pcre2_general_context_8, pcre2_general_context_free_8> general{
      pcre2_general_context_create_8(Allocate, Release, nullptr)};
  const Owned<pcre2_match_data_8, pcre2_match_data_free_8> data{
      pcre2_match_data_create_8(1, general.get())};
  const Owned<pcre2_match_context_8, pcre2_match_context_free_8> context{
      pcre2_match_context_create_8(general.get())};
  const Owned<pcre2_jit_stack_8, pcre2_jit_stack_free_8> stack{
      pcre2_jit_stack_create_8(kJitStackBytesMin, kJitStackBytesMax, general.get())};
  std::vector<std::string_view> pieces;
  std::vector<std::string_view> refined;  // By the next expression.
  std::vector<Segment> segments;          // Of one piece, where matches join their neighbours.
};

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

  // Appends the pieces of well-formed `text` to scratch.refined.
  void Split(std::string_view text, Scratch::Parts& scratch) const {
    std::vector<std::string_view>& pieces = scratch.refined;
    // Matches hold whole characters, so where nothing is dropped a single character is one piece,
    // whatever matches.
    const SplitBehavior behavior = rule_.behavior;
    if (behavior != SplitBehavior::kRemoved && DecodeUtf8(text).length == text.size()) {
      pieces.push_back(text);
      return;
    }
    const auto emit = [&](std::string_view segment, bool is_match) {
      if (behavior == SplitBehavior::kIsolated) {
        pieces.push_back(segment);
      } else if (behavior == SplitBehavior::kRemoved) {
        if (is_match == rule_.invert) pieces.push_back(segment);
      } else {
        scratch.segments.push_back({segment, is_match != rule_.invert});
      }
    };
    scratch.segments.clear();
    const auto* subject = reinterpret_cast<PCRE2_SPTR8>(text.data());
    size_t done = 0;
    while (done < text.size()) {
      const int found = pcre2_jit_match_8(code_.get(), subject, text.size(), done,
                                          PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, scratch.data.get(),
                                          scratch.context.get());
      if (found == PCRE2_ERROR_NOMATCH) break;
      if (found < 0) {
        Throw(ErrorCode::kInvalidArgument, "pre-tokenizer expression ", rule_.pattern, ": ",
              PcreMessage(found), " at byte ", done, " of a text of ", text.size(),
              " bytes; send a shorter text");
      }
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer_8(scratch.data.get());
      if (range[0] > done) emit(text.substr(done, range[0] - done), false);
      emit(text.substr(range[0], range[1] - range[0]), true);
      done = range[1];
    }
    if (done < text.size()) emit(text.substr(done), false);
    Join(scratch);
  }

 private:
  using Segment = Scratch::Parts::Segment;

  // Appends the pieces that segments which join make.
  void Join(Scratch::Parts& scratch) const {
    const std::vector<Segment>& segments = scratch.segments;
    size_t begin = 0;
    for (size_t i = 1; i <= segments.size(); ++i) {
      if (i < segments.size() && AreOne(segments, i)) continue;
      const char* first = segments[begin].text.data();
      const std::string_view last = segments[i - 1].text;
      scratch.refined.emplace_back(first, last.data() + last.size() - first);
      begin = i;
    }
  }

  // Whether segment i belongs to the piece of the one before.
  bool AreOne(const std::vector<Segment>& segments, size_t i) const {
    const bool match = segments[i].is_match;
    const bool match_before = segments[i - 1].is_match;
    if (rule_.behavior == SplitBehavior::kContiguous) return match == match_before;
    return rule_.behavior == SplitBehavior::kMergedWithPrevious ? match && !match_before
                                                                : match_before && !match;
  }

  const SplitRule rule_;
  Owned<pcre2_code_8, pcre2_code_free_8> code_;
};

PreTokenizer::PreTokenizer(const std::vector<SplitRule>& rules) {
  for (const SplitRule& rule : rules) expressions_.push_back(std::make_unique<Expression>(rule));
}

PreTokenizer::~PreTokenizer() = default;

PreTokenizer::Scratch::Scratch() : parts_(std::make_unique<Parts>()) {}

PreTokenizer::Scratch::~Scratch() = default;

void PreTokenizer::SplitWellFormed(std::string_view text, Scratch::Parts& scratch) const {
  scratch.pieces.assign(1, text);
  for (const auto& expression : expressions_) {
    scratch.refined.clear();
    for (const std::string_view piece : scratch.pieces) expression->Split(piece, scratch);
    scratch.pieces.swap(scratch.refined);
  }
}

void PreTokenizer::Split(std::string_view text, Scratch& scratch,
                         const std::function<void(std::string_view)>& emit) const {
  const auto emit_run = [&](std::string_view run) {
    if (run.empty()) return;
    SplitWellFormed(run, *scratch.parts_);
    for (const std::string_view piece : scratch.parts_->pieces) emit(piece);
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
