// Containers, comparison and text of the values of template expressions.

#include "parallel/text/jinja/value.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "parallel/text/utf8.h"
#include "transport/base/error.h"

namespace shoal::text::jinja {
namespace {

int CheckedDepth(int inner) {
  if (inner >= kDepthMax) {
    Throw(ErrorCode::kInvalidArgument, "chat template: values nest deeper than ", kDepthMax,
          " levels; send flatter messages or tools");
  }
  return inner + 1;
}

Value FromJsonAt(const nlohmann::ordered_json& json, bool from_user, int level) {
  CheckedDepth(level);
  switch (json.type()) {
    case nlohmann::json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::json::value_t::number_integer:
      return json.get<int64_t>();
    case nlohmann::json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        Throw(ErrorCode::kInvalidArgument, "chat template: the integer ", json.dump(),
              " is too large; expected a signed 64-bit one");
      }
      return json.get<int64_t>();
    case nlohmann::json::value_t::number_float:
      return json.get<double>();
    case nlohmann::json::value_t::string:
      return Text(json.get_ref<const std::string&>(), from_user);
    case nlohmann::json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(FromJsonAt(item, from_user, level + 1));
      return MakeSequence(std::move(items));
    }
    case nlohmann::json::value_t::object: {
      Mapping mapping;
      for (const auto& [key, value] : json.items()) {
        mapping.Set(Text(key, from_user), FromJsonAt(value, from_user, level + 1));
      }
      return MakeMapping(std::move(mapping));
    }
    default:
      return None{};
  }
}

}  // namespace

Text::Text(std::string_view from, bool from_user) : bytes(from) {
  if (from_user) user.assign(bytes.size(), 1);
}

void Text::Append(const Text& other) {
  if (!user.empty() || !other.user.empty()) {
    user.resize(bytes.size(), 0);
    if (other.user.empty()) {
      user.append(other.bytes.size(), 0);
    } else {
      user += other.user;
    }
  }
  bytes += other.bytes;
}

void Text::Append(std::string_view other, bool from_user) {
  if (from_user || !user.empty()) {
    user.resize(bytes.size(), 0);
    user.append(other.size(), from_user ? 1 : 0);
  }
  bytes += other;
}

Text Text::Slice(size_t begin, size_t end) const {
  Text part;
  part.bytes = bytes.substr(begin, end - begin);
  if (!user.empty()) part.user = user.substr(begin, end - begin);
  return part;
}

int Value::depth() const {
  if (IsSequence()) return sequence().depth;
  if (IsMapping()) return mapping().depth;
  return IsObject() ? object()->depth() : 0;
}

const char* Value::type_name() const {
  if (IsUndefined()) return "Undefined";
  if (IsNone()) return "NoneType";
  if (IsBool()) return "bool";
  if (IsInteger()) return "int";
  if (IsFloat()) return "float";
  if (IsText()) return "str";
  if (IsMapping()) return "dict";
  if (IsObject()) return object()->type_name();
  switch (sequence().kind) {
    case Sequence::Kind::kList:
      return "list";
    case Sequence::Kind::kTuple:
      return "tuple";
    case Sequence::Kind::kGenerator:
      return "generator";
    case Sequence::Kind::kView:
      break;
  }
  return "dict view";
}

const Value* Mapping::Find(const std::string& key) const {
  const auto it = index.find(key);
  return it == index.end() ? nullptr : &items[it->second].second;
}

void Mapping::Set(const Text& key, Value value) {
  const auto [it, is_new] = index.try_emplace(key.bytes, items.size());
  if (is_new) {
    items.emplace_back(key, std::move(value));
  } else {
    items[it->second].second = std::move(value);
  }
}

Value MakeSequence(std::vector<Value> items, Sequence::Kind kind) {
  auto sequence = std::make_shared<Sequence>();
  int inner = 0;
  for (const Value& item : items) inner = std::max(inner, item.depth());
  sequence->depth = CheckedDepth(inner);
  sequence->kind = kind;
  sequence->items = std::move(items);
  return SequencePtr(std::move(sequence));
}

Value MakeMapping(Mapping mapping) {
  int inner = 0;
  for (const auto& [key, value] : mapping.items) inner = std::max(inner, value.depth());
  mapping.depth = CheckedDepth(inner);
  return MappingPtr(std::make_shared<const Mapping>(std::move(mapping)));
}

Value FromJson(const nlohmann::ordered_json& json, bool from_user) {
  return FromJsonAt(json, from_user, 0);
}

bool Truth(const Value& value) {
  if (value.IsUndefined() || value.IsNone()) return false;
  if (value.IsInteger()) return value.integer() != 0;
  if (value.IsFloat()) return value.number() != 0;
  if (value.IsText()) return !value.text().bytes.empty();
  if (value.IsMapping()) return !value.mapping().items.empty();
  if (value.IsSequence()) {
    return value.sequence().kind == Sequence::Kind::kGenerator || !value.sequence().items.empty();
  }
  return true;
}

std::vector<size_t> CharacterOffsets(const std::string& bytes) {
  std::vector<size_t> offsets;
  offsets.reserve(bytes.size() + 1);
  for (size_t at = 0; at < bytes.size();) {
    offsets.push_back(at);
    at += DecodeUtf8(std::string_view(bytes).substr(at)).length;
  }
  offsets.push_back(bytes.size());
  return offsets;
}

}  // namespace shoal::text::jinja
