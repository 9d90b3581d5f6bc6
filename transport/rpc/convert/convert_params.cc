// A generation's parameters on the wire: each field is found in its schema by its name.

#include <capnp/dynamic.h>

#include "transport/base/error.h"
#include "transport/base/generation/fields.h"
#include "transport/rpc/convert/convert.h"

namespace shoal::rpc {
namespace {

void WriteLogitBias(const std::vector<LogitBias>& from, wire::SamplingParams::Builder to) {
  if (from.empty()) return;
  const auto count = static_cast<unsigned>(from.size());
  auto ids = to.initBiasIds(count);
  auto biases = to.initBiases(count);
  for (unsigned i = 0; i < count; ++i) {
    ids.set(i, from[i].token);
    biases.set(i, from[i].bias);
  }
}

std::vector<LogitBias> ReadLogitBias(wire::SamplingParams::Reader from) {
  const auto ids = from.getBiasIds();
  const auto biases = from.getBiases();
  if (ids.size() != biases.size()) {
    Throw(ErrorCode::kInvalidArgument, "logit biases: expected one value for each of ", ids.size(),
          " ids, found ", biases.size());
  }
  std::vector<LogitBias> to(ids.size());
  for (unsigned i = 0; i < ids.size(); ++i) to[i] = {ids[i], biases[i]};
  return to;
}

wire::GrammarKind ToWire(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::kNone:
      return wire::GrammarKind::NONE;
    case GrammarKind::kJsonObject:
      return wire::GrammarKind::JSON_OBJECT;
    case GrammarKind::kJsonSchema:
      return wire::GrammarKind::JSON_SCHEMA;
    case GrammarKind::kRegex:
      return wire::GrammarKind::REGEX;
    case GrammarKind::kChoice:
      return wire::GrammarKind::CHOICE;
    case GrammarKind::kParts:
      return wire::GrammarKind::PARTS;
  }
  return wire::GrammarKind::NONE;
}

// A kind that this build does not know must not become an answer without structure.
GrammarKind FromWire(wire::GrammarKind kind) {
  switch (kind) {
    case wire::GrammarKind::NONE:
      return GrammarKind::kNone;
    case wire::GrammarKind::JSON_OBJECT:
      return GrammarKind::kJsonObject;
    case wire::GrammarKind::JSON_SCHEMA:
      return GrammarKind::kJsonSchema;
    case wire::GrammarKind::REGEX:
      return GrammarKind::kRegex;
    case wire::GrammarKind::CHOICE:
      return GrammarKind::kChoice;
    case wire::GrammarKind::PARTS:
      return GrammarKind::kParts;
  }
  Throw(ErrorCode::kInvalidArgument, "unknown grammar kind ", static_cast<int>(kind));
}

// "top_p" is "topP" in a schema.
std::string WireName(std::string_view name) {
  std::string text;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool begins_word = name[i] == '_' && i + 1 < name.size();
    text += begins_word ? static_cast<char>(name[++i] - 'a' + 'A') : name[i];
  }
  return text;
}

// A field of the parameters is found in its schema by its name, so that no field can be forgotten
// here: one that the schema lacks is an exception whatever is sent.
struct FieldWriter {
  ::capnp::DynamicStruct::Builder to;

  template <typename Number>
  requires std::is_arithmetic_v<Number>
  void operator()(const ParamField& field, Number number) { to.set(WireName(field.name), number); }
  void operator()(const ParamField& field, const std::string& text) {
    to.set(WireName(field.name), ToText(text));
  }
  void operator()(const ParamField& field, const std::vector<int32_t>& tokens) {
    WriteTokens(tokens, [&](unsigned size) {
      return to.init(WireName(field.name), size).as<::capnp::List<int32_t>>();
    });
  }
  void operator()(const ParamField&, const std::vector<LogitBias>& biases) {
    WriteLogitBias(biases, to.as<wire::SamplingParams>());
  }
  void operator()(const ParamField&, const GrammarSource& grammar) {
    auto params = to.as<wire::GenerationParams>();
    params.setGrammarKind(ToWire(grammar.kind));
    params.setGrammar(ToText(grammar.text));
  }
  void operator()(const ParamField& field, const SamplingParams& sampling) {
    ForEachField(sampling, FieldWriter{to.init(WireName(field.name)).as<::capnp::DynamicStruct>()});
  }
};

struct FieldReader {
  ::capnp::DynamicStruct::Reader from;

  template <typename Number>
  requires std::is_arithmetic_v<Number>
  void operator()(const ParamField& field, Number& number) {
    number = from.get(WireName(field.name)).as<Number>();
  }
  void operator()(const ParamField& field, std::string& text) {
    text = ToString(from.get(WireName(field.name)).as<::capnp::Text>());
  }
  void operator()(const ParamField& field, std::vector<int32_t>& tokens) {
    tokens = ReadTokens(from.get(WireName(field.name)).as<::capnp::List<int32_t>>());
  }
  void operator()(const ParamField&, std::vector<LogitBias>& biases) {
    biases = ReadLogitBias(from.as<wire::SamplingParams>());
  }
  void operator()(const ParamField&, GrammarSource& grammar) {
    const auto params = from.as<wire::GenerationParams>();
    grammar = {FromWire(params.getGrammarKind()), ToString(params.getGrammar())};
  }
  void operator()(const ParamField& field, SamplingParams& sampling) {
    ForEachField(sampling,
                 FieldReader{from.get(WireName(field.name)).as<::capnp::DynamicStruct>()});
  }
};

}  // namespace

void Write(const GenerationParams& params, wire::GenerationParams::Builder to) {
  ForEachField(params, FieldWriter{to});
}

GenerationParams Read(wire::GenerationParams::Reader from) {
  GenerationParams params;
  ForEachField(params, FieldReader{from});
  return params;
}

}  // namespace shoal::rpc
