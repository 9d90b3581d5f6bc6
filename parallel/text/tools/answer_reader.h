#pragma once

// Splits a model's answer, while it arrives, into what it thinks, what it says and the tools that
// it calls.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/text/tools/call_scanner.h"
#include "parallel/text/tools/tool_syntax.h"

namespace shoal::text {

// How a model marks the parts of its answers.
struct AnswerSyntax {
  std::optional<ToolFormat> tools{};  // None: nothing is a call.
  // "<think>", "</think>"; empty: nothing is marked.
  std::string reasoning_begin{};
  std::string reasoning_end{};
  bool begins_in_reasoning = false;  // The prompt ends with reasoning_begin.
};

struct AnswerParts {
  std::string reasoning{};
  std::string content{};
  std::vector<ToolDelta> calls{};

  bool operator==(const AnswerParts&) const = default;
};

// The joined parts are a function of the joined text, whatever its pieces. Nothing is lost: what
// begins like a call and is none is content, as it stands. White space around reasoning and around
// calls belongs to nobody. After what a call's text broke off in, the answer is content again.
// Threading: thread-compatible.
class AnswerReader {
 public:
  explicit AnswerReader(AnswerSyntax syntax);

  AnswerParts Push(std::string_view text);
  // The text of a special token: only a marker says anything.
  AnswerParts PushSpecial(std::string_view text);
  // What was held back.
  AnswerParts Finish();

  int32_t call_count() const { return call_count_; }

 private:
  enum class Mode : uint8_t { kStart, kReasoning, kContent, kHeader, kCall };

  bool IsMarker(std::string_view text) const;
  void Run(bool at_end);
  // Each takes some of held_. Result: false if it needs more first.
  bool RunStart(bool at_end);
  bool RunReasoning(bool at_end);
  bool RunContent(bool at_end);
  bool RunHeader(bool at_end);
  bool RunCall(bool at_end);
  void AddContent(std::string_view text);
  void BeginCalls(std::string_view marker);
  // What began as a call is content.
  void GiveBack();
  void AddCallDelta();
  // The name that stands before the arguments; empty: they have their name inside.
  std::string HeaderName() const;

  const AnswerSyntax syntax_;
  const ToolSyntax* const tools_;  // Null: nothing is a call.
  AnswerParts parts_;              // Since the last call.
  Mode mode_ = Mode::kStart;
  std::string held_;
  bool trims_ = false;       // White space that comes next is nobody's.
  std::string raw_;          // What came since a call may have begun.
  size_t header_begin_ = 0;  // Of raw_: after the marker, or the call before.
  std::optional<CallScanner> scanner_;
  bool told_ = false;  // Of the call that is being read, its name.
  int32_t call_count_ = 0;
};

}  // namespace shoal::text
