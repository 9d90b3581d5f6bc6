#include "coordinator/gateway/api/fields/tools.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/gateway/api/api_error.h"
#include "coordinator/gateway/api/fields/ignored_fields.h"

namespace shoal::gateway {
namespace {

using Json = nlohmann::ordered_json;

struct Function {
  std::string name;
  Json schema;
  std::string field;  // Of the schema.
  Json shown{};       // To the template.
};

struct ToolsAsked {
  std::vector<Function> functions;
  bool forced = false;
  std::optional<Function> named{};  // The one that must be called.
};

const Json& Need(JsonReader& object, std::string_view name) {
  const Json* const value = object.Find(name);
  if (value != nullptr) return *value;
  throw ApiError(object.Path(name), object.Path(name) + " is missing", "missing_field");
}

std::string NeedString(JsonReader& object, std::string_view name) {
  Need(object, name);
  return *object.String(name);
}

void NeedType(JsonReader& object, std::string_view type) {
  const std::string found = NeedString(object, "type");
  if (found == type) return;
  throw ApiError(object.Path("type"), Str(object.Path("type"), " must be ", Json(type).dump(),
                                          ", not ", Json(found).dump()));
}

std::string ReadName(JsonReader& function) {
  const std::string name = NeedString(function, "name");
  const bool fits =
      !name.empty() && name.size() <= kToolNameBytesMax && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-';
      });
  if (fits) return name;
  throw ApiError(function.Path("name"),
                 Str(function.Path("name"), " must be 1 to ", kToolNameBytesMax,
                     " letters, digits, '_' and '-', not ", Json(name).dump()));
}

Json ReadSchema(JsonReader& function) {
  const Json* const parameters = function.Find("parameters");
  const std::string path = function.Path("parameters");
  if (parameters == nullptr) return Json{{"type", "object"}};
  if (!parameters->is_object()) ThrowWrongType(path, "a JSON schema, an object", *parameters);
  Json schema = *parameters;
  const Json type = schema.value("type", Json("object"));
  if (type != "object") {
    throw ApiError(path + ".type", Str(path, ".type must be \"object\", not ", type.dump(),
                                       ": a call's arguments are an object"));
  }
  schema["type"] = "object";
  return schema;
}

// `what`: of its names, such as "tools.function.".
Function ReadFunction(const Json& value, const std::string& path, std::string_view what,
                      std::vector<std::string>& ignored) {
  JsonReader function(value, path);
  Function result;
  result.name = ReadName(function);
  function.String("description");
  function.Bool("strict");  // Arguments of a forced call always fit; others are the model's own.
  result.schema = ReadSchema(function);
  result.field = function.Path("parameters");
  NoteUnread(function, what, ignored);
  return result;
}

// {"type": "function", "function": {...}}
Function ReadTool(const Json& value, const std::string& path, std::vector<std::string>& ignored) {
  JsonReader tool(value, path);
  NeedType(tool, "function");
  Function result =
      ReadFunction(Need(tool, "function"), tool.Path("function"), "tools.function.", ignored);
  NoteUnread(tool, "tools.", ignored);
  result.shown = value;
  return result;
}

// Of tools, or (`legacy`) of functions.
std::vector<Function> ReadFunctions(const Json& list, const std::string& field, bool legacy,
                                    std::vector<std::string>& ignored) {
  if (!list.is_array()) ThrowWrongType(field, "an array", list);
  if (list.size() > kToolsMax) {
    throw ApiError(field,
                   Str(field, " must have at most ", kToolsMax, " elements, not ", list.size()));
  }
  std::vector<Function> all;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string path = Str(field, "[", i, "]");
    Function one = legacy ? ReadFunction(list[i], path, "functions.", ignored)
                          : ReadTool(list[i], path, ignored);
    if (legacy) one.shown = {{"type", "function"}, {"function", list[i]}};
    const auto has_name = [&](const Function& other) { return other.name == one.name; };
    if (std::ranges::any_of(all, has_name)) {
      throw ApiError(path,
                     Str(path, " has the name ", Json(one.name).dump(), " of an earlier one"));
    }
    all.push_back(std::move(one));
  }
  return all;
}

std::string Names(const std::vector<Function>& functions) {
  std::string names;
  for (const Function& function : functions) names += (names.empty() ? "" : ", ") + function.name;
  return names;
}

const Function& FindFunction(const std::string& name, const std::string& path,
                             const std::vector<Function>& functions) {
  for (const Function& function : functions) {
    if (function.name == name) return function;
  }
  throw ApiError(path, Str(path, " is ", Json(name).dump(), ", which is none of the functions",
                           functions.empty() ? "" : ": " + Names(functions)));
}

// {"type": "function", "function": {"name": NAME}}
Function ReadReference(const Json& value, const std::string& path,
                       const std::vector<Function>& functions) {
  JsonReader object(value, path);
  NeedType(object, "function");
  JsonReader function(Need(object, "function"), object.Path("function"));
  return FindFunction(NeedString(function, "name"), function.Path("name"), functions);
}

// {"mode": "auto" or "required", "tools": [REFERENCE, ...]}: the model is told of these alone.
void ReadAllowed(JsonReader& choice, ToolsAsked& asked) {
  JsonReader allowed(Need(choice, "allowed_tools"), choice.Path("allowed_tools"));
  const std::string mode = NeedString(allowed, "mode");
  if (mode != "auto" && mode != "required") {
    throw ApiError(
        allowed.Path("mode"),
        Str(allowed.Path("mode"), " must be \"auto\" or \"required\", not ", Json(mode).dump()));
  }
  const Json& list = Need(allowed, "tools");
  const std::string path = allowed.Path("tools");
  if (!list.is_array() || list.empty()) ThrowWrongType(path, "an array of tools, not empty", list);
  std::vector<Function> functions;
  for (size_t i = 0; i < list.size(); ++i) {
    functions.push_back(ReadReference(list[i], Str(path, "[", i, "]"), asked.functions));
  }
  asked.functions = std::move(functions);
  asked.forced = mode == "required";
}

void ReadToolChoice(JsonReader& fields, ToolsAsked& asked) {
  constexpr std::string_view kField = "tool_choice";
  const Json* const choice = fields.Find(kField);
  if (choice == nullptr || *choice == "auto") return;
  if (*choice == "none") {
    asked.functions.clear();
  } else if (*choice == "required") {
    if (asked.functions.empty()) {
      throw ApiError(std::string(kField), "tool_choice is \"required\", but there are no tools");
    }
    asked.forced = true;
  } else if (choice->is_object()) {
    JsonReader object(*choice, std::string(kField));
    if (choice->value("type", Json()) == "allowed_tools") return ReadAllowed(object, asked);
    asked.named = ReadReference(*choice, std::string(kField), asked.functions);
  } else {
    throw ApiError(std::string(kField),
                   Str("tool_choice must be \"none\", \"auto\", \"required\" or {\"type\": "
                       "\"function\", \"function\": {\"name\": NAME}}, not ",
                       choice->is_string() ? choice->dump() : std::string(TypeName(*choice))));
  }
}

void ReadFunctionCall(JsonReader& fields, ToolsAsked& asked) {
  constexpr std::string_view kField = "function_call";
  const Json* const choice = fields.Find(kField);
  if (choice == nullptr || *choice == "auto") return;
  if (*choice == "none") {
    asked.functions.clear();
  } else if (choice->is_object()) {
    JsonReader object(*choice, std::string(kField));
    asked.named = FindFunction(NeedString(object, "name"), object.Path("name"), asked.functions);
  } else {
    throw ApiError(std::string(kField),
                   Str("function_call must be \"none\", \"auto\" or {\"name\": NAME}, not ",
                       choice->is_string() ? choice->dump() : std::string(TypeName(*choice))));
  }
}

std::string Shown(const std::vector<Function>& functions) {
  Json shown = Json::array();
  for (const Function& function : functions) shown.push_back(function.shown);
  return shown.dump();
}

std::string Callable(const std::vector<Function>& functions) {
  Json callable = Json::array();
  for (const Function& function : functions) {
    callable.push_back(
        {{"name", function.name}, {"parameters", function.schema}, {"field", function.field}});
  }
  return callable.dump();
}

// What a function is called with: text, or an object that stands for its text.
Json ReadCalledFunction(const Json& value, const std::string& path,
                        std::vector<std::string>& ignored) {
  JsonReader function(value, path);
  std::string name = ReadName(function);
  const Json* const arguments = function.Find("arguments");
  const std::string field = function.Path("arguments");
  if (arguments != nullptr && !arguments->is_string() && !arguments->is_object()) {
    ThrowWrongType(field, "JSON as a string", *arguments);
  }
  std::string text = arguments == nullptr     ? "{}"
                     : arguments->is_string() ? arguments->get<std::string>()
                                              : arguments->dump();
  if (text.empty()) text = "{}";
  NoteUnread(function, "messages.tool_calls.function.", ignored);
  return {{"name", std::move(name)}, {"arguments", std::move(text)}};
}

}  // namespace

AskedTools ReadTools(JsonReader& fields, std::vector<std::string>& ignored) {
  AskedTools tools;
  const Json* const list = fields.Find("tools");
  const Json* const older = fields.Find("functions");
  const bool has_tools = list != nullptr && !(list->is_array() && list->empty());
  tools.legacy = older != nullptr && !(older->is_array() && older->empty());
  if (has_tools && tools.legacy) {
    throw ApiError("functions", "tools and functions exclude each other: leave out functions");
  }
  ToolsAsked asked;
  if (has_tools) asked.functions = ReadFunctions(*list, "tools", false, ignored);
  if (tools.legacy) asked.functions = ReadFunctions(*older, "functions", true, ignored);
  tools.parallel = fields.Bool("parallel_tool_calls").value_or(true) && !tools.legacy;
  ToolsAsked nothing;  // The choice of the other form has nothing to choose from.
  ReadToolChoice(fields, tools.legacy ? nothing : asked);
  ReadFunctionCall(fields, tools.legacy ? asked : nothing);
  if (asked.functions.empty()) return tools;
  tools.shown = Shown(asked.functions);
  tools.forced = asked.forced || asked.named;
  if (asked.named) {
    tools.parallel = false;
    asked.functions = {*asked.named};
  }
  tools.functions = Callable(asked.functions);
  return tools;
}

std::string ReadCalls(JsonReader& message, std::vector<std::string>& ignored) {
  Json calls = Json::array();
  if (const Json* list = message.Find("tool_calls"); list != nullptr) {
    const std::string path = message.Path("tool_calls");
    if (!list->is_array()) ThrowWrongType(path, "an array of calls", *list);
    if (list->size() > kToolsMax) {
      throw ApiError(path,
                     Str(path, " must have at most ", kToolsMax, " calls, not ", list->size()));
    }
    for (size_t i = 0; i < list->size(); ++i) {
      JsonReader call((*list)[i], Str(path, "[", i, "]"));
      const std::string type = call.String("type").value_or("function");
      if (type != "function") {
        throw ApiError(call.Path("type"),
                       Str(call.Path("type"), " must be \"function\", not ", Json(type).dump()));
      }
      const std::string id = call.String("id").value_or("");
      call.Find("index");  // As a streamed answer's calls have it.
      Json function = ReadCalledFunction(Need(call, "function"), call.Path("function"), ignored);
      NoteUnread(call, "messages.tool_calls.", ignored);
      calls.push_back({{"id", id}, {"type", "function"}, {"function", std::move(function)}});
    }
  }
  if (const Json* older = message.Find("function_call"); older != nullptr && calls.empty()) {
    calls.push_back(
        {{"id", ""},
         {"type", "function"},
         {"function", ReadCalledFunction(*older, message.Path("function_call"), ignored)}});
  }
  return calls.empty() ? "" : calls.dump();
}

}  // namespace shoal::gateway
