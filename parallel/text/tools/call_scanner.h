#pragma once

// Reads one call of a tool, written as JSON, while it arrives.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace shoal::text {

// A stretch of one call: the name comes whole, in the first delta; the arguments' joined text is
// the JSON that the model wrote.
struct ToolDelta {
  int32_t call = 0;  // Index in the answer.
  std::string name{};
  std::string arguments{};

  bool operator==(const ToolDelta&) const = default;
};

// Takes characters from the opening brace on. With a name given it is the object of arguments; else
// an object with "name" and "arguments" (also: "parameters"), in any order, or with those inside of
// "function". A model's JSON is passed on as it stands: that it is an object of balanced brackets
// is all that is made sure of. Threading: thread-compatible.
class CallScanner {
 public:
  enum class State : uint8_t { kGoesOn, kEnded, kNoCall };

  explicit CallScanner(std::string name = "")
      : name_(std::move(name)), named_(!name_.empty()), bare_(named_) {}

  // After kEnded or kNoCall no more may come.
  State Push(char c);

  // Whether it is certain that this is a call: until then it may yet be other JSON.
  bool named() const { return named_; }
  const std::string& name() const { return name_; }
  // What of the arguments came since the last time. Only of a call with a name.
  std::string TakeArguments() { return std::exchange(arguments_, {}); }

 private:
  enum class Where : uint8_t {
    kStart,
    kBeforeKey,
    kKey,
    kAfterKey,
    kBeforeValue,
    kValue,
    kAfterValue
  };

  State PushMember(char c);
  State PushKey(char c);
  void BeginValue(char c);
  void PushValue(char c);
  State EndValue();
  State EndObject();
  bool IsArguments() const { return key_ == "arguments" || key_ == "parameters"; }
  bool KeepsValue() const { return !IsArguments() || !is_container_; }
  // Goes on by one character of a value. Result: whether that was its last one.
  bool Advance(char c);

  std::string name_;
  bool named_;
  const bool bare_;  // The object is that of the arguments.
  std::string arguments_;
  bool has_arguments_ = false;
  Where where_ = Where::kStart;
  int wraps_ = 0;  // Objects around the one that has the name.
  std::string key_;
  std::string value_;  // So far, of those that are looked at whole.
  bool is_container_ = false;
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

}  // namespace shoal::text
