#pragma once

// Python's operators on values, and its ways of printing them.

#include <string>
#include <vector>

#include "parallel/text/jinja/evaluator.h"
#include "parallel/text/jinja/value.h"

namespace shoal::text::jinja {

// Errors of all: kInvalidArgument where Python or Jinja would raise.

Value Arithmetic(Evaluator& evaluator, const std::string& op, const Value& left,
                 const Value& right);
// Python's ==.
bool Equal(Evaluator& evaluator, const Value& left, const Value& right);
// Result: negative, 0 or positive.
int Compare(Evaluator& evaluator, const Value& left, const Value& right);
bool Contains(Evaluator& evaluator, const Value& container, const Value& item);

Value GetAttribute(Evaluator& evaluator, const Value& self, const std::string& name);
Value GetItem(Evaluator& evaluator, const Value& self, const Value& key);
// `self[start:stop:step]`, where an undefined part is left out.
Value GetSlice(Evaluator& evaluator, const Value& self, const Value& start, const Value& stop,
               const Value& step);

// What a loop over the value gives. Consumes a generator.
std::vector<Value> Items(Evaluator& evaluator, const Value& value);

// str(value).
Text ToText(Evaluator& evaluator, const Value& value);
// How json.dumps writes.
struct JsonStyle {
  int64_t indent = -1;  // Negative: all in one line.
  bool sort_keys = false;
  bool ensure_ascii = false;  // Other characters as \uXXXX.
  Text between_items = Text(", ");
  Text after_key = Text(": ");
};
Text ToJson(Evaluator& evaluator, const Value& value, const JsonStyle& style);
// format % arguments.
Text FormatText(Evaluator& evaluator, const Text& format, const Value& arguments);
std::string FloatText(double value);

}  // namespace shoal::text::jinja
