#include "coordinator/gateway/api/fields/response_format.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "coordinator/gateway/api/api_error.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;

// Collects what the fields ask for, and refuses a second one.
class Asked {
 public:
  void Add(GrammarKind kind, std::string text, std::string param) {
    if (grammar_.source.kind != GrammarKind::kNone) {
      throw ApiError(param, Str(param, " and ", grammar_.param,
                                " exclude each other: an answer has one structure"));
    }
    if (text.size() > kGrammarBytesMax) {
      throw ApiError(param, Str(param, " has ", text.size(), " bytes, of which at most ",
                                kGrammarBytesMax, " are supported"));
    }
    grammar_ = {{kind, std::move(text)}, std::move(param)};
  }

  // A schema as an object, or as text that holds one.
  void AddSchema(const Json& schema, std::string param) {
    const bool is_text = schema.is_string();
    Add(GrammarKind::kJsonSchema, is_text ? schema.get<std::string>() : schema.dump(),
        std::move(param));
  }

  void AddRegex(const std::optional<std::string>& pattern, std::string param) {
    if (pattern) Add(GrammarKind::kRegex, *pattern, std::move(param));
  }

  void AddChoice(const Json& choice, std::string param) {
    if (!choice.is_array()) ThrowWrongType(param, "an array of strings", choice);
    Add(GrammarKind::kChoice, choice.dump(), std::move(param));
  }

  AskedGrammar Take() { return std::move(grammar_); }

 private:
  AskedGrammar grammar_;
};

// A member that is not known may be part of the constraint: it is never dropped.
void RefuseUnread(JsonReader& object, std::string_view known) {
  for (const std::string& name : object.Unread()) {
    if (object.Find(name) == nullptr) continue;  // null
    const std::string path = object.Path(name);
    throw ApiError(path, Str(path, " is not supported: use ", known), "unsupported_parameter");
  }
}

void ReadResponseFormat(JsonReader& fields, Asked& asked) {
  const Json* value = fields.Find("response_format");
  if (value == nullptr) return;
  JsonReader format(*value, "response_format");
  const std::string type = format.String("type").value_or("");
  if (type == "text") return RefuseUnread(format, "the type text alone");
  if (type == "json_object") {
    if (const Json* schema = format.Find("schema"); schema != nullptr) {
      asked.AddSchema(*schema, format.Path("schema"));
    } else {
      asked.Add(GrammarKind::kJsonObject, "", format.Path("type"));
    }
    return RefuseUnread(format, "the type json_object alone or with schema");
  }
  if (type != "json_schema") {
    throw ApiError(format.Path("type"),
                   "response_format.type must be text, json_object or json_schema");
  }
  const Json* wrapper = format.Find("json_schema");
  if (wrapper == nullptr) {
    throw ApiError(format.Path("json_schema"), "response_format.json_schema is missing",
                   "missing_field");
  }
  JsonReader named(*wrapper, format.Path("json_schema"));
  named.String("name");
  named.String("description");
  named.Bool("strict");
  const Json* schema = named.Find("schema");
  if (schema == nullptr) {
    throw ApiError(named.Path("schema"), named.Path("schema") + " is missing", "missing_field");
  }
  asked.AddSchema(*schema, named.Path("schema"));
  RefuseUnread(named, "name, description, schema and strict");
  RefuseUnread(format, "type and json_schema");
}

void ReadStructuredOutputs(JsonReader& fields, Asked& asked) {
  const Json* value = fields.Find("structured_outputs");
  if (value == nullptr) return;
  JsonReader outputs(*value, "structured_outputs");
  if (const Json* schema = outputs.Find("json"); schema != nullptr) {
    asked.AddSchema(*schema, outputs.Path("json"));
  }
  if (outputs.Bool("json_object").value_or(false)) {
    asked.Add(GrammarKind::kJsonObject, "", outputs.Path("json_object"));
  }
  asked.AddRegex(outputs.String("regex"), outputs.Path("regex"));
  if (const Json* choice = outputs.Find("choice"); choice != nullptr) {
    asked.AddChoice(*choice, outputs.Path("choice"));
  }
  RefuseUnread(outputs, "json, json_object, regex or choice");
}

}  // namespace

AskedGrammar ReadGrammar(JsonReader& fields) {
  Asked asked;
  ReadResponseFormat(fields, asked);
  ReadStructuredOutputs(fields, asked);
  if (const Json* schema = fields.Find("guided_json"); schema != nullptr) {
    asked.AddSchema(*schema, "guided_json");
  }
  asked.AddRegex(fields.String("guided_regex"), "guided_regex");
  if (const Json* schema = fields.Find("json_schema"); schema != nullptr) {
    asked.AddSchema(*schema, "json_schema");
  }
  asked.AddRegex(fields.String("regex"), "regex");
  if (const Json* choice = fields.Find("guided_choice"); choice != nullptr) {
    asked.AddChoice(*choice, "guided_choice");
  }
  return asked.Take();
}

}  // namespace shoal::gateway
