#include "parallel/text/grammar/parts.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel/text/grammar/regular/regex.h"
#include "parallel/text/grammar/schema/schema.h"
#include "transport/base/error.h"

namespace shoal::text::grammar {
namespace {

using Json = nlohmann::ordered_json;

// Carries where it is, for complaints.
class PartsCompiler {
 public:
  explicit PartsCompiler(Expression& expression) : expression_(expression) {}

  NodeId Sequence(const Json& parts, const std::string& place, int depth) {
    if (!parts.is_array()) Refuse(place, "an array of parts", parts);
    if (depth > kPartsDepthMax) {
      Throw(ErrorCode::kInvalidArgument, place, ": parts nested deeper than ", kPartsDepthMax);
    }
    std::vector<NodeId> nodes;
    for (size_t i = 0; i < parts.size(); ++i) {
      nodes.push_back(Part(parts[i], Str(place, "[", i, "]"), depth));
    }
    return expression_.Sequence(nodes);
  }

 private:
  [[noreturn]] static void Refuse(const std::string& place, std::string_view expected,
                                  const Json& found) {
    Throw(ErrorCode::kInvalidArgument, place, ": expected ", expected, ", found ", found.dump());
  }

  NodeId Part(const Json& part, const std::string& place, int depth) {
    if (part.is_string()) return expression_.Literal(part.get<std::string>());
    if (part.is_object() && part.size() == 1) {
      const std::string& key = part.begin().key();
      const Json& value = part.begin().value();
      const std::string inside = Str(place, ".", key);
      if (key == "schema") {
        return Placed(inside, [&] { return CompileSchema(expression_, value); });
      }
      if (key == "regex" && value.is_string()) {
        return Placed(inside, [&] {
          return ParseRegex(expression_, value.get<std::string>(), Spelling::kUtf8,
                            RegexMatch::kWhole);
        });
      }
      if (key == "any_of" && value.is_array() && !value.empty()) {
        return AnyOf(value, inside, depth);
      }
    }
    if (part.is_object() && part.contains("repeat")) return Repeat(part, place, depth);
    Refuse(place, "a text, or an object of schema, regex, any_of or repeat", part);
  }

  NodeId AnyOf(const Json& options, const std::string& place, int depth) {
    std::vector<NodeId> nodes;
    for (size_t i = 0; i < options.size(); ++i) {
      nodes.push_back(Sequence(options[i], Str(place, "[", i, "]"), depth + 1));
    }
    return expression_.Choice(nodes);
  }

  NodeId Repeat(const Json& part, const std::string& place, int depth) {
    for (const auto& [key, value] : part.items()) {
      const bool is_count = (key == "min" || key == "max") && value.is_number_unsigned() &&
                            value.get<uint64_t>() < kUnlimited;
      if (key == "repeat" || is_count || (key == "separator" && value.is_string())) continue;
      Refuse(Str(place, ".", key), "repeat, separator (a text), min and max (numbers)", value);
    }
    const uint32_t min = part.value("min", uint32_t{1});
    const uint32_t max = part.value("max", kUnlimited);
    if (min > max) Throw(ErrorCode::kInvalidArgument, place, ": min ", min, " is above max ", max);
    if (max == 0) return Expression::kEmpty;
    const NodeId body = Sequence(part["repeat"], place + ".repeat", depth + 1);
    const NodeId next =
        expression_.Sequence({expression_.Literal(part.value("separator", "")), body});
    const NodeId all =
        expression_.Sequence({body, expression_.Repeat(next, min == 0 ? 0 : min - 1,
                                                       max == kUnlimited ? kUnlimited : max - 1)});
    return min == 0 ? expression_.Optional(all) : all;
  }

  static NodeId Placed(const std::string& place, const std::function<NodeId()>& compile) {
    try {
      return compile();
    } catch (const Error& error) {  // With the place in front.
      Throw(error.code(), place, ": ", error.what());
    }
  }

  Expression& expression_;
};

}  // namespace

NodeId CompileParts(Expression& expression, const Json& parts) {
  return PartsCompiler(expression).Sequence(parts, "parts", 0);
}

}  // namespace shoal::text::grammar
