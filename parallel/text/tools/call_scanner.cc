#include "parallel/text/tools/call_scanner.h"

// One character at a time, so that what comes out does not depend on how the text was cut.

#include <nlohmann/json.hpp>
#include <utility>

namespace shoal::text {
namespace {

constexpr int kWrapsMax = 4;

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// What a JSON string stands for; the text itself if it is none.
std::string Decode(const std::string& text) {
  const nlohmann::json value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_string() ? value.get<std::string>() : text;
}

// Other members make an object some other JSON.
bool MayBeOfACall(std::string_view key) {
  return key == "name" || key == "arguments" || key == "parameters" || key == "function" ||
         key == "type" || key == "id";
}

}  // namespace

CallScanner::State CallScanner::Push(char c) {
  if (where_ == Where::kStart) {
    if (!bare_) {
      where_ = Where::kBeforeKey;
      return State::kGoesOn;
    }
    key_ = "arguments";
    BeginValue(c);
    return State::kGoesOn;
  }
  if (where_ != Where::kValue) return PushMember(c);
  const bool is_scalar = !is_container_ && value_.front() != '"';
  if (is_scalar && (IsSpace(c) || c == ',' || c == '}')) {
    const State state = EndValue();
    return state == State::kGoesOn ? PushMember(c) : state;
  }
  PushValue(c);
  return Advance(c) ? EndValue() : State::kGoesOn;
}

CallScanner::State CallScanner::PushMember(char c) {
  if (where_ == Where::kKey) return PushKey(c);
  if (IsSpace(c)) return State::kGoesOn;
  switch (where_) {
    case Where::kBeforeKey:
    case Where::kAfterValue:
      if (c == '}') return EndObject();
      if (c == ',' && where_ == Where::kAfterValue) {
        where_ = Where::kBeforeKey;
        return State::kGoesOn;
      }
      if (c != '"' || where_ == Where::kAfterValue) return State::kNoCall;
      key_.clear();
      where_ = Where::kKey;
      return State::kGoesOn;
    case Where::kAfterKey:
      where_ = Where::kBeforeValue;
      return c == ':' ? State::kGoesOn : State::kNoCall;
    case Where::kBeforeValue:
      if (c == '{' && key_ == "function" && wraps_ < kWrapsMax) {
        ++wraps_;
        where_ = Where::kBeforeKey;
        return State::kGoesOn;
      }
      if (c == '}' || c == ']' || c == ',' || c == ':') return State::kNoCall;
      BeginValue(c);
      return State::kGoesOn;
    case Where::kStart:
    case Where::kKey:
    case Where::kValue:
      break;
  }
  return State::kNoCall;
}

CallScanner::State CallScanner::PushKey(char c) {
  if (c != '"') {
    key_ += c;
    return State::kGoesOn;
  }
  where_ = Where::kAfterKey;
  return MayBeOfACall(key_) ? State::kGoesOn : State::kNoCall;
}

void CallScanner::BeginValue(char c) {
  where_ = Where::kValue;
  value_.clear();
  is_container_ = c == '{' || c == '[';
  depth_ = is_container_ ? 1 : 0;
  in_string_ = c == '"';
  escaped_ = false;
  PushValue(c);
}

void CallScanner::PushValue(char c) { (KeepsValue() ? value_ : arguments_) += c; }

bool CallScanner::Advance(char c) {
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      return depth_ == 0;
    }
    return false;
  }
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if (c == '}' || c == ']') return --depth_ == 0;
  return false;
}

CallScanner::State CallScanner::EndValue() {
  where_ = Where::kAfterValue;
  if (IsArguments()) {
    // Some write the object as a string.
    if (!is_container_ && value_.front() == '"') arguments_ += Decode(value_);
    has_arguments_ = is_container_ || value_.front() == '"';
    if (bare_) return State::kEnded;
  } else if (!named_ && value_.front() == '"' && (key_ == "name" || key_ == "function")) {
    name_ = Decode(value_);
    named_ = !name_.empty();
    if (!named_) return State::kNoCall;
  }
  return State::kGoesOn;
}

CallScanner::State CallScanner::EndObject() {
  if (wraps_ > 0) {
    --wraps_;
    where_ = Where::kAfterValue;
    return State::kGoesOn;
  }
  if (!named_) return State::kNoCall;
  if (!has_arguments_) arguments_ += "{}";
  return State::kEnded;
}

}  // namespace shoal::text
