// The wire form of plans and results. Peers run the same build, so there is no version; the tag and
// the bounds are there so that a lost or torn message ends the step with an Error and never reads
// past it.

#include "worker/engine/step_plan.h"

#include <bit>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "transport/base/error.h"
#include "transport/base/generation/fields.h"

namespace shoal::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire form is copied as it lies");

constexpr uint32_t kPlanTag = 0x6e616c70;    // "plan"
constexpr uint32_t kResultTag = 0x746c7572;  // "rult"

class Writer {
 public:
  template <typename T>
  void Put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void PutBool(bool value) { Put<uint8_t>(value ? 1 : 0); }
  void PutCount(size_t count) { Put(static_cast<uint32_t>(count)); }

  template <typename T>
  void PutArray(const std::vector<T>& values) {
    PutCount(values.size());
    const size_t at = bytes_.size();
    bytes_.resize(at + values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(T));
  }
  void PutString(std::string_view text) {
    PutCount(text.size());
    const size_t at = bytes_.size();
    bytes_.resize(at + text.size());
    if (!text.empty()) std::memcpy(bytes_.data() + at, text.data(), text.size());
  }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const char* what) : bytes_(bytes), what_(what) {}

  template <typename T>
  T Get() {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, Take(sizeof value).data(), sizeof value);
    return value;
  }
  bool GetBool() {
    const auto value = Get<uint8_t>();
    if (value > 1) Refuse("a flag that is 0 or 1", Str(int{value}));
    return value == 1;
  }
  GrammarKind GetGrammarKind() {
    const auto value = Get<uint8_t>();
    if (value > static_cast<uint8_t>(GrammarKind::kParts)) {
      Refuse("a kind of grammar", Str(int{value}));
    }
    return static_cast<GrammarKind>(value);
  }
  // A count of elements that take at least `element_bytes` each: more than the rest of the message
  // could hold is refused before anything is allocated for it.
  size_t GetCount(size_t element_bytes) {
    const auto count = Get<uint32_t>();
    const size_t left = bytes_.size() - at_;
    if (count > left / element_bytes) {
      Refuse(Str("at most ", left / element_bytes, " elements"), Str(count));
    }
    return count;
  }
  template <typename T>
  std::vector<T> GetArray() {
    std::vector<T> values(GetCount(sizeof(T)));
    const auto bytes = Take(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  std::string GetString() {
    const size_t size = GetCount(1);
    const auto bytes = Take(size);
    return std::string(reinterpret_cast<const char*>(bytes.data()), size);
  }
  void ExpectTag(uint32_t tag) {
    const auto found = Get<uint32_t>();
    if (found != tag) Refuse(Str("the tag ", tag), Str(found));
  }
  void ExpectEnd() {
    if (at_ != bytes_.size()) Refuse(Str("the end after ", at_, " bytes"), Str(bytes_.size()));
  }

 private:
  std::span<const std::byte> Take(size_t count) {
    const size_t left = bytes_.size() - at_;
    if (count > left) Refuse(Str(count, " more bytes"), Str(left));
    at_ += count;
    return bytes_.subspan(at_ - count, count);
  }
  [[noreturn]] void Refuse(std::string_view expected, std::string_view found) {
    Throw(ErrorCode::kFailed, what_, ", byte ", at_, ": expected ", expected, ", found ", found,
          ": the ranks do not run the same build, or a message was torn");
  }

  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  const char* what_;
};

// The fewest bytes of each in the wire form, for Reader::GetCount.
constexpr size_t kLogprobsBytesMin = 4 + 4;
constexpr size_t kStartBytesMin = 4 + 8 + 4 + 4 + 4;
constexpr size_t kKnownBytes = 4 + 4;
constexpr size_t kItemBytesMin = 4 + 4 + 4 + 1 + 1 + 4 + 4;
constexpr size_t kChosenBytesMin = 4 + kLogprobsBytesMin;
constexpr size_t kItemResultBytesMin = 4 + 4 + 4 + 4 + 4;

// One field of GenerationParams, by its type.
struct FieldWriter {
  Writer& out;

  template <typename Number>
  requires std::is_arithmetic_v<Number>
  void operator()(const ParamField&, Number number) const { out.Put(number); }
  void operator()(const ParamField&, bool flag) const { out.PutBool(flag); }
  void operator()(const ParamField&, const std::string& text) const { out.PutString(text); }
  void operator()(const ParamField&, const std::vector<int32_t>& tokens) const {
    out.PutArray(tokens);
  }
  void operator()(const ParamField&, const std::vector<LogitBias>& biases) const {
    out.PutCount(biases.size());
    for (const LogitBias& entry : biases) {
      out.Put(entry.token);
      out.Put(entry.bias);
    }
  }
  void operator()(const ParamField&, const GrammarSource& grammar) const {
    out.Put(static_cast<uint8_t>(grammar.kind));
    out.PutString(grammar.text);
  }
  void operator()(const ParamField&, const SamplingParams& sampling) const {
    ForEachField(sampling, *this);
  }
};

struct FieldReader {
  Reader& in;

  template <typename Number>
  requires std::is_arithmetic_v<Number>
  void operator()(const ParamField&, Number& number) const { number = in.Get<Number>(); }
  void operator()(const ParamField&, bool& flag) const { flag = in.GetBool(); }
  void operator()(const ParamField&, std::string& text) const { text = in.GetString(); }
  void operator()(const ParamField&, std::vector<int32_t>& tokens) const {
    tokens = in.GetArray<int32_t>();
  }
  void operator()(const ParamField&, std::vector<LogitBias>& biases) const {
    biases.resize(in.GetCount(sizeof(int32_t) + sizeof(float)));
    for (LogitBias& entry : biases) {
      entry.token = in.Get<int32_t>();
      entry.bias = in.Get<float>();
    }
  }
  void operator()(const ParamField&, GrammarSource& grammar) const {
    grammar.kind = in.GetGrammarKind();
    grammar.text = in.GetString();
  }
  void operator()(const ParamField&, SamplingParams& sampling) const {
    ForEachField(sampling, *this);
  }
};

void PutLogprobs(Writer& out, const TokenLogprobs& logprobs) {
  out.Put(logprobs.logprob);
  out.PutCount(logprobs.top.size());
  for (const auto& [token, logprob] : logprobs.top) {
    out.Put(token);
    out.Put(logprob);
  }
}

TokenLogprobs GetLogprobs(Reader& in) {
  TokenLogprobs logprobs;
  logprobs.logprob = in.Get<float>();
  logprobs.top.resize(in.GetCount(sizeof(int32_t) + sizeof(float)));
  for (auto& [token, logprob] : logprobs.top) {
    token = in.Get<int32_t>();
    logprob = in.Get<float>();
  }
  return logprobs;
}

}  // namespace

std::vector<std::byte> Encode(const StepPlan& plan) {
  Writer out;
  out.Put(kPlanTag);
  out.Put(plan.step);
  out.PutBool(plan.stop);
  out.PutArray(plan.ends);
  out.PutCount(plan.starts.size());
  for (const SequenceStart& start : plan.starts) {
    out.Put(start.slot);
    out.Put(start.id);
    out.PutArray(start.tokens);
    out.Put(start.prompt_count);
    ForEachField(start.params, FieldWriter{out});
    out.PutArray(start.blocks);
  }
  out.PutCount(plan.known.size());
  for (const KnownToken& known : plan.known) {
    out.Put(known.slot);
    out.Put(known.token);
  }
  out.PutCount(plan.items.size());
  for (const StepItem& item : plan.items) {
    out.Put(item.slot);
    out.Put(item.position_begin);
    out.Put(item.row_count);
    out.PutBool(item.sample);
    out.PutBool(item.prompt_logits);
    out.PutArray(item.new_blocks);
    out.PutArray(item.drafts);
  }
  return out.Take();
}

StepPlan DecodeStepPlan(std::span<const std::byte> bytes) {
  Reader in(bytes, "step plan");
  in.ExpectTag(kPlanTag);
  StepPlan plan;
  plan.step = in.Get<uint64_t>();
  plan.stop = in.GetBool();
  plan.ends = in.GetArray<uint32_t>();
  plan.starts.resize(in.GetCount(kStartBytesMin));
  for (SequenceStart& start : plan.starts) {
    start.slot = in.Get<uint32_t>();
    start.id = in.Get<uint64_t>();
    start.tokens = in.GetArray<int32_t>();
    start.prompt_count = in.Get<uint32_t>();
    ForEachField(start.params, FieldReader{in});
    start.blocks = in.GetArray<int32_t>();
  }
  plan.known.resize(in.GetCount(kKnownBytes));
  for (KnownToken& known : plan.known) {
    known.slot = in.Get<uint32_t>();
    known.token = in.Get<int32_t>();
  }
  plan.items.resize(in.GetCount(kItemBytesMin));
  for (StepItem& item : plan.items) {
    item.slot = in.Get<uint32_t>();
    item.position_begin = in.Get<uint32_t>();
    item.row_count = in.Get<uint32_t>();
    item.sample = in.GetBool();
    item.prompt_logits = in.GetBool();
    item.new_blocks = in.GetArray<int32_t>();
    item.drafts = in.GetArray<int32_t>();
  }
  in.ExpectEnd();
  return plan;
}

std::vector<std::byte> Encode(const StepResult& result) {
  Writer out;
  out.Put(kResultTag);
  out.Put(result.step);
  out.PutCount(result.items.size());
  for (const ItemResult& item : result.items) {
    out.Put(item.slot);
    out.PutCount(item.chosen.size());
    for (const ChosenToken& chosen : item.chosen) {
      out.Put(chosen.token);
      PutLogprobs(out, chosen.logprobs);
    }
    out.PutCount(item.prompt_logprobs.size());
    for (const TokenLogprobs& logprobs : item.prompt_logprobs) PutLogprobs(out, logprobs);
    out.Put(item.bad_row);
    out.PutString(item.detail);
  }
  return out.Take();
}

StepResult DecodeStepResult(std::span<const std::byte> bytes) {
  Reader in(bytes, "step result");
  in.ExpectTag(kResultTag);
  StepResult result;
  result.step = in.Get<uint64_t>();
  result.items.resize(in.GetCount(kItemResultBytesMin));
  for (ItemResult& item : result.items) {
    item.slot = in.Get<uint32_t>();
    item.chosen.resize(in.GetCount(kChosenBytesMin));
    for (ChosenToken& chosen : item.chosen) {
      chosen.token = in.Get<int32_t>();
      chosen.logprobs = GetLogprobs(in);
    }
    item.prompt_logprobs.resize(in.GetCount(kLogprobsBytesMin));
    for (TokenLogprobs& logprobs : item.prompt_logprobs) logprobs = GetLogprobs(in);
    item.bad_row = in.Get<int32_t>();
    item.detail = in.GetString();
  }
  in.ExpectEnd();
  return result;
}

}  // namespace shoal::engine
