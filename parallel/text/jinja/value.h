#pragma once

// The values of template expressions. Strings know, byte by byte, what came from outside.

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace shoal::text::jinja {

// Bytes, and for each whether it came from outside (a message, a tool) or from the template.
struct Text {
  std::string bytes;
  std::string user;  // One 0 or 1 for each byte; empty if all are the template's.

  Text() = default;
  Text(std::string_view from, bool from_user = false);

  bool IsUser(size_t at) const { return !user.empty() && user[at] != 0; }
  void Append(const Text& other);
  void Append(std::string_view other, bool from_user);
  Text Slice(size_t begin, size_t end) const;
};

struct Sequence;
struct Mapping;
class Object;
class Value;

using TextPtr = std::shared_ptr<const Text>;
// shared_ptr: values are immutable and held by variables, containers and temporaries alike.
using SequencePtr = std::shared_ptr<const Sequence>;
using MappingPtr = std::shared_ptr<const Mapping>;
using ObjectPtr = std::shared_ptr<Object>;

// A name or member that does not exist; prints as nothing, and most operations refuse it.
struct Undefined {
  std::string what;
};
struct None {};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(None none) : data_(none) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(Text text) : data_(std::make_shared<const Text>(std::move(text))) {}
  Value(SequencePtr sequence) : data_(std::move(sequence)) {}
  Value(MappingPtr mapping) : data_(std::move(mapping)) {}
  Value(ObjectPtr object) : data_(std::move(object)) {}

  bool IsUndefined() const { return std::holds_alternative<Undefined>(data_); }
  bool IsNone() const { return std::holds_alternative<None>(data_); }
  bool IsBool() const { return std::holds_alternative<bool>(data_); }
  // As in Python, a bool is an integer too.
  bool IsInteger() const { return IsBool() || std::holds_alternative<int64_t>(data_); }
  bool IsFloat() const { return std::holds_alternative<double>(data_); }
  bool IsNumber() const { return IsInteger() || IsFloat(); }
  bool IsText() const { return std::holds_alternative<TextPtr>(data_); }
  bool IsSequence() const { return std::holds_alternative<SequencePtr>(data_); }
  bool IsMapping() const { return std::holds_alternative<MappingPtr>(data_); }
  bool IsObject() const { return std::holds_alternative<ObjectPtr>(data_); }

  // Each needs the kind it names.
  int64_t integer() const { return IsBool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double number() const {
    return IsFloat() ? std::get<double>(data_) : static_cast<double>(integer());
  }
  const Text& text() const { return *std::get<TextPtr>(data_); }
  const Sequence& sequence() const { return *std::get<SequencePtr>(data_); }
  const Mapping& mapping() const { return *std::get<MappingPtr>(data_); }
  const ObjectPtr& object() const { return std::get<ObjectPtr>(data_); }
  const std::string& undefined() const { return std::get<Undefined>(data_).what; }

  // Containers around the innermost value; bounded, because freeing them recurses.
  int depth() const;
  // As Python names the type, for messages.
  const char* type_name() const;

 private:
  std::variant<Undefined, None, bool, int64_t, double, TextPtr, SequencePtr, MappingPtr, ObjectPtr>
      data_;
};

struct Sequence {
  // A generator gives its items once; a view (of a mapping) cannot be indexed.
  enum class Kind : uint8_t { kList, kTuple, kGenerator, kView };

  Kind kind = Kind::kList;
  std::vector<Value> items;
  int depth = 1;
  mutable bool consumed = false;

  bool lazy() const { return kind == Kind::kGenerator || kind == Kind::kView; }
};

struct Mapping {
  std::vector<std::pair<Text, Value>> items;
  std::unordered_map<std::string, size_t> index;
  int depth = 1;

  const Value* Find(const std::string& key) const;
  // Replaces an existing item's value.
  void Set(const Text& key, Value value);
};

// Something with behaviour: a namespace, a macro, a loop, a function or a method.
class Object {
 public:
  virtual ~Object() = default;
  virtual const char* type_name() const = 0;
  virtual int depth() const { return 1; }
  virtual bool callable() const { return false; }
};

// Errors of both: kInvalidArgument beyond kDepthMax levels.
inline constexpr int kDepthMax = 100;
Value MakeSequence(std::vector<Value> items, Sequence::Kind kind = Sequence::Kind::kList);
Value MakeMapping(Mapping mapping);

// `from_user` marks all strings of it, keys included.
Value FromJson(const nlohmann::ordered_json& json, bool from_user);

// Python's truth of a value.
bool Truth(const Value& value);

// Byte offsets of the characters, and the size at the end.
std::vector<size_t> CharacterOffsets(const std::string& bytes);

}  // namespace shoal::text::jinja
