// From messages to text and ids, by the model's own template.

#include "parallel/text/chat_template.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "parallel/model/model.h"
#include "parallel/text/jinja/evaluator.h"
#include "parallel/text/jinja/syntax/ast.h"
#include "parallel/text/jinja/syntax/parser.h"
#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

// The largest published templates have some 10 KB.
constexpr size_t kTemplateBytesMax = 1 << 20;

// About how much there is to render.
int64_t InputBytes(const nlohmann::ordered_json& value) {
  constexpr int64_t kNodeBytes = 32;
  int64_t bytes = kNodeBytes;
  if (value.is_string()) bytes += static_cast<int64_t>(value.get_ref<const std::string&>().size());
  if (value.is_structured()) {
    for (const auto& item : value) bytes += InputBytes(item);
  }
  return bytes;
}

// In proportion to the input, so that a template that never ends is noticed as soon with a short
// chat, which the event loop waits for, as one can be.
jinja::RenderLimits LimitsFor(const nlohmann::ordered_json& variables) {
  constexpr int64_t kOperationsLeast = 250'000;
  constexpr int64_t kOperationsPerByte = 2;
  jinja::RenderLimits limits;
  limits.operations_max = std::min(limits.operations_max,
                                   kOperationsLeast + kOperationsPerByte * InputBytes(variables));
  return limits;
}

class JinjaTemplate : public ChatTemplate {
 public:
  explicit JinjaTemplate(const std::string& source)
      : source_(source), body_(jinja::Parse(source)) {}

  RenderedChat Render(const nlohmann::ordered_json& variables,
                      std::optional<int64_t> unix_seconds) const override {
    std::vector<std::pair<std::string, jinja::Value>> values;
    for (const auto& [name, value] : variables.items()) {
      const bool from_user = !name.ends_with("_token");
      values.emplace_back(name, jinja::FromJson(value, from_user));
    }
    jinja::Evaluator evaluator(LimitsFor(variables), unix_seconds);
    jinja::Text text = evaluator.Render(body_, std::move(values));
    RenderedChat chat;
    for (size_t begin = text.user.find('\1'); begin != std::string::npos;) {
      const size_t end = std::min(text.user.find('\0', begin), text.user.size());
      chat.user_ranges.push_back({begin, end});
      begin = text.user.find('\1', end);
    }
    chat.text = std::move(text.bytes);
    return chat;
  }

  bool Mentions(std::string_view text) const override {
    return source_.find(Str("'", text, "'")) != std::string::npos ||
           source_.find(Str('"', text, '"')) != std::string::npos;
  }

  const std::string& source() const override { return source_; }

 private:
  const std::string source_;
  const jinja::Body body_;
};

constexpr const char* kConfigTemplate = "tokenizer_config.json: chat_template";

// A template and what it is called in messages.
struct NamedTemplate {
  const nlohmann::json* value = nullptr;  // Null if there is none.
  std::string name;
};

// A folder's own file or a GGUF file's key, else tokenizer_config.json's chat_template: a string,
// or a list of named ones with a "default".
NamedTemplate FindTemplate(const nlohmann::json& metadata) {
  for (const char* key : {model::kChatTemplateFile, "tokenizer.chat_template"}) {
    const auto found = metadata.find(key);
    if (found != metadata.end() && !found->is_null()) return {&*found, key};
  }
  const auto config = metadata.find("tokenizer_config.json");
  if (config == metadata.end() || !config->is_object()) return {};
  const auto value = config->find("chat_template");
  if (value == config->end() || value->is_null()) return {};
  if (!value->is_array()) return {&*value, kConfigTemplate};
  for (const auto& item : *value) {
    if (!item.is_object() || !item.contains("template")) continue;
    const auto name = item.find("name");
    if (name != item.end() && *name == "default") return {&item["template"], kConfigTemplate};
  }
  Throw(ErrorCode::kInvalidArgument, kConfigTemplate, ": expected one named ",
        "\"default\" in the list, found none");
}

std::unique_ptr<ChatTemplate> ParseNamed(std::string source, const std::string& name) {
  try {
    return ChatTemplate::Parse(std::move(source));
  } catch (const Error& error) {
    Throw(error.code(), name, ": ", error.what());
  }
}

// Newer clients call the system's messages the developer's.
void RenameDeveloper(nlohmann::ordered_json& variables) {
  const auto messages = variables.find("messages");
  if (messages == variables.end() || !messages->is_array()) return;
  for (auto& message : *messages) {
    if (!message.is_object()) continue;
    const auto role = message.find("role");
    if (role != message.end() && *role == "developer") *role = "system";
  }
}

bool Continues(const nlohmann::ordered_json& variables) {
  const auto found = variables.find("continue_final_message");
  return found != variables.end() && *found == true;
}

// Takes off what the template writes after the last message's text. Where it shows that text
// without white space at its ends, what stands at its end is not part of the prompt.
void EndWithLastMessage(const nlohmann::ordered_json& messages, RenderedChat& chat) {
  constexpr std::string_view kSpaces = " \n\r\t";
  const std::string& content = messages.back().at("content").get_ref<const std::string&>();
  const size_t begin = std::min(content.find_first_not_of(kSpaces), content.size());
  const std::string whole = content.substr(begin);
  const std::string trimmed = whole.substr(0, whole.find_last_not_of(kSpaces) + 1);
  const auto is_users = [&](size_t at, size_t size) {
    return std::any_of(
        chat.user_ranges.begin(), chat.user_ranges.end(),
        [&](const ByteRange& range) { return range.begin <= at && at + size <= range.end; });
  };
  for (const std::string& shown : {whole, trimmed}) {
    size_t at = shown.empty() ? std::string::npos : chat.text.rfind(shown);
    while (at != std::string::npos && !is_users(at, shown.size())) {
      at = at == 0 ? std::string::npos : chat.text.rfind(shown, at - 1);
    }
    if (at == std::string::npos) continue;
    const size_t end = at + shown.size();
    chat.text.resize(end);
    std::erase_if(chat.user_ranges, [&](const ByteRange& range) { return range.begin >= end; });
    if (!chat.user_ranges.empty()) {
      size_t& last = chat.user_ranges.back().end;
      last = std::min(last, end);
    }
    return;
  }
  Throw(ErrorCode::kInvalidArgument, "the last message cannot be gone on with: the template does ",
        "not show its text as it stands, or it is empty");
}

}  // namespace

std::unique_ptr<ChatTemplate> ChatTemplate::Parse(std::string source) {
  if (source.size() > kTemplateBytesMax) {
    Throw(ErrorCode::kInvalidArgument, "chat template of ", source.size(), " bytes: at most ",
          kTemplateBytesMax, " are supported");
  }
  if (std::string repaired;
      AppendRepaired(source, repaired) < source.size() || repaired != source) {
    Throw(ErrorCode::kInvalidArgument, "chat template: expected UTF-8, found other bytes");
  }
  return std::make_unique<JinjaTemplate>(source);
}

std::unique_ptr<ChatTemplate> ChatTemplate::Make(const model::Model& model) {
  return FromMetadata(model.metadata(), model.tokenizer_source());
}

std::unique_ptr<ChatTemplate> ChatTemplate::FromMetadata(const nlohmann::json& metadata,
                                                         model::TokenizerSource source) {
  if (source == model::TokenizerSource::kNone) return nullptr;
  const NamedTemplate found = FindTemplate(metadata);
  if (found.value == nullptr) return nullptr;
  if (!found.value->is_string()) {
    Throw(ErrorCode::kInvalidArgument, found.name, ": chat_template: expected a string, found ",
          found.value->type_name());
  }
  return ParseNamed(found.value->get<std::string>(), found.name);
}

std::unique_ptr<ChatTemplate> ChatTemplate::FromFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  // One byte more than is supported, which Parse then refuses.
  std::string source(kTemplateBytesMax + 1, '\0');
  in.read(source.data(), static_cast<std::streamsize>(source.size()));
  if (!in.is_open() || in.bad() || (in.gcount() == 0 && !in.eof())) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected a file with a chat template, found one ",
          "that cannot be read; name another");
  }
  source.resize(static_cast<size_t>(in.gcount()));
  return ParseNamed(std::move(source), path);
}

std::vector<int32_t> EncodeChat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                nlohmann::ordered_json variables,
                                std::optional<int64_t> unix_seconds) {
  variables.emplace("bos_token", tokenizer.bos_text());
  variables.emplace("eos_token", tokenizer.eos_text());
  variables.emplace("tools", nullptr);
  variables.emplace("documents", nullptr);
  variables.emplace("add_generation_prompt", true);
  if (!chat_template.Mentions("developer")) RenameDeveloper(variables);
  RenderedChat chat = chat_template.Render(variables, unix_seconds);
  if (Continues(variables)) EndWithLastMessage(variables["messages"], chat);
  return tokenizer.EncodeMarked(chat.text, chat.user_ranges);
}

}  // namespace shoal::text
