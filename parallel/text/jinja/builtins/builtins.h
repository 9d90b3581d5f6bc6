#pragma once

// The filters, tests, methods and functions that templates may use.

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parallel/text/jinja/value.h"

namespace shoal::text::jinja {

class Evaluator;

// The arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;

  // The arguments by parameter, absent ones empty. Errors: kInvalidArgument for one too many, or
  // one that has no parameter.
  std::vector<std::optional<Value>> Bind(Evaluator& evaluator,
                                         std::initializer_list<std::string_view> parameters) const;
};

bool IsFilter(const std::string& name);
bool IsTest(const std::string& name);

Value ApplyFilter(Evaluator& evaluator, const std::string& name, const Value& input,
                  const Arguments& arguments);
bool ApplyTest(Evaluator& evaluator, const std::string& name, const Value& input,
               const Arguments& arguments);

// A method of a string or mapping, to be called later; empty if there is none of this name.
std::optional<Value> FindMethod(const Value& self, const std::string& name);
Value CallMethod(Evaluator& evaluator, const Value& self, const std::string& name,
                 const Arguments& arguments);

// The functions that every template sees; undefined for another name.
Value FindFunction(const Evaluator& evaluator, const std::string& name);
Value CallFunction(Evaluator& evaluator, const std::string& name, const Arguments& arguments);

}  // namespace shoal::text::jinja
