#include "parallel/text/tools/answer_reader.h"

// What might yet become a marker is held back, and so is white space, which may turn out to stand
// before one.

#include <algorithm>
#include <utility>

namespace shoal::text {
namespace {

constexpr size_t kHeaderBytesMax = 512;
constexpr size_t kNameBytesMax = 128;
constexpr std::string_view kSpaces = " \n\r\t";
// What Mistral's newer models write between a name and its arguments.
constexpr std::string_view kCallId = "[CALL_ID]";

size_t SkipSpaces(std::string_view text) {
  return std::min(text.find_first_not_of(kSpaces), text.size());
}

std::string_view Trim(std::string_view text) {
  text.remove_prefix(SkipSpaces(text));
  return text.substr(0, text.find_last_not_of(kSpaces) + 1);
}

// Where the first of them begins, and its length.
std::pair<size_t, size_t> FindFirst(std::string_view text,
                                    const std::vector<std::string_view>& markers) {
  std::pair<size_t, size_t> first(std::string_view::npos, 0);
  for (const std::string_view marker : markers) {
    const size_t found = text.find(marker);
    if (found < first.first) first = {found, marker.size()};
  }
  return first;
}

// From where on the text may be white space before a marker, or the beginning of one.
size_t HeldFrom(std::string_view text, const std::vector<std::string_view>& markers) {
  size_t from = text.size();
  for (const std::string_view marker : markers) {
    size_t begin = text.size() - std::min(text.size(), marker.size() - 1);
    while (begin < from && !marker.starts_with(text.substr(begin))) ++begin;
    from = std::min(from, begin);
  }
  return text.substr(0, from).find_last_not_of(kSpaces) + 1;
}

void Erase(std::string& text, std::string_view what) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at)) {
    text.erase(at, what.size());
  }
}

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || c == '.';
         });
}

}  // namespace

AnswerReader::AnswerReader(AnswerSyntax syntax)
    : syntax_(std::move(syntax)), tools_(syntax_.tools ? &SyntaxOf(*syntax_.tools) : nullptr) {
  if (!syntax_.begins_in_reasoning || syntax_.reasoning_end.empty()) return;
  mode_ = Mode::kReasoning;
  trims_ = true;
}

AnswerParts AnswerReader::Push(std::string_view text) {
  held_ += text;
  Run(/*at_end=*/false);
  return std::exchange(parts_, {});
}

AnswerParts AnswerReader::PushSpecial(std::string_view text) {
  return IsMarker(text) ? Push(text) : AnswerParts{};
}

AnswerParts AnswerReader::Finish() {
  Run(/*at_end=*/true);
  return std::exchange(parts_, {});
}

bool AnswerReader::IsMarker(std::string_view text) const {
  if (text == syntax_.reasoning_begin || text == syntax_.reasoning_end) return true;
  if (tools_ == nullptr) return false;
  const auto has = [&](const std::vector<std::string_view>& markers) {
    return std::find(markers.begin(), markers.end(), text) != markers.end();
  };
  return has(tools_->begins) || has(tools_->ends) || has(tools_->noise) ||
         text == tools_->separator || text == kCallId;
}

void AnswerReader::Run(bool at_end) {
  bool goes_on = true;
  while (goes_on) {
    switch (mode_) {
      case Mode::kStart:
        goes_on = RunStart(at_end);
        break;
      case Mode::kReasoning:
        goes_on = RunReasoning(at_end);
        break;
      case Mode::kContent:
        goes_on = RunContent(at_end);
        break;
      case Mode::kHeader:
        goes_on = RunHeader(at_end);
        break;
      case Mode::kCall:
        goes_on = RunCall(at_end);
        break;
    }
  }
}

// Only here can reasoning begin, or a call without a marker.
bool AnswerReader::RunStart(bool at_end) {
  const size_t begin = SkipSpaces(held_);
  const std::string_view rest = std::string_view(held_).substr(begin);
  const std::string& marker = syntax_.reasoning_begin;
  if (!at_end && (rest.empty() || (rest.size() < marker.size() && marker.starts_with(rest)))) {
    return false;
  }
  if (!marker.empty() && rest.starts_with(marker)) {
    held_.erase(0, begin + marker.size());
    mode_ = Mode::kReasoning;
    trims_ = true;
  } else if (tools_ != nullptr && tools_->bare && rest.starts_with('{')) {
    BeginCalls(std::string_view(held_).substr(0, begin));
    held_.erase(0, begin);
  } else {
    mode_ = Mode::kContent;
  }
  return true;
}

bool AnswerReader::RunReasoning(bool at_end) {
  const std::vector<std::string_view> end{syntax_.reasoning_end};
  if (trims_) held_.erase(0, SkipSpaces(held_));
  trims_ = trims_ && held_.empty();
  const auto [found, size] = FindFirst(held_, end);
  if (found == std::string::npos) {
    const size_t free = HeldFrom(held_, end);
    parts_.reasoning += at_end ? held_ : held_.substr(0, free);
    held_.erase(0, at_end ? held_.size() : free);
    return false;
  }
  const std::string_view last = std::string_view(held_).substr(0, found);
  parts_.reasoning += last.substr(0, last.find_last_not_of(kSpaces) + 1);
  held_.erase(0, found + size);
  trims_ = true;
  mode_ = Mode::kContent;
  if (tools_ == nullptr || !tools_->bare) return true;
  held_.erase(0, SkipSpaces(held_));
  mode_ = Mode::kStart;
  return true;
}

bool AnswerReader::RunContent(bool at_end) {
  if (trims_) held_.erase(0, SkipSpaces(held_));
  if (tools_ == nullptr) {
    AddContent(held_);
    held_.clear();
    return false;
  }
  const auto [found, size] = FindFirst(held_, tools_->begins);
  if (found == std::string::npos) {
    const size_t free = at_end ? held_.size() : HeldFrom(held_, tools_->begins);
    AddContent(std::string_view(held_).substr(0, free));
    held_.erase(0, free);
    return false;
  }
  const std::string_view before = std::string_view(held_).substr(0, found);
  const size_t shown = before.find_last_not_of(kSpaces) + 1;
  AddContent(before.substr(0, shown));
  BeginCalls(std::string_view(held_).substr(shown, found - shown + size));
  held_.erase(0, found + size);
  return true;
}

void AnswerReader::AddContent(std::string_view text) {
  if (!text.empty()) trims_ = false;
  parts_.content += text;
}

void AnswerReader::BeginCalls(std::string_view marker) {
  raw_ = marker;
  header_begin_ = raw_.size();
  mode_ = Mode::kHeader;
}

void AnswerReader::GiveBack() {
  AddContent(raw_);
  raw_.clear();
  mode_ = Mode::kContent;
}

// What stands between a marker, or a call's end, and an object.
bool AnswerReader::RunHeader(bool at_end) {
  while (!held_.empty()) {
    const char c = held_.front();
    if (c == '{') {
      std::string name = HeaderName();
      if (!name.empty() && !IsName(name)) {
        GiveBack();
        return true;
      }
      scanner_.emplace(std::move(name));
      told_ = false;
      mode_ = Mode::kCall;
      return true;
    }
    held_.erase(0, 1);
    raw_ += c;
    const std::string_view header = std::string_view(raw_).substr(header_begin_);
    for (const std::string_view end : tools_->ends) {
      if (!header.ends_with(end)) continue;
      // An end right after the beginning ends no call.
      if (header_begin_ > 0 || !HeaderName().empty()) {
        GiveBack();
        return true;
      }
      raw_.clear();
      trims_ = true;
      mode_ = Mode::kContent;
      return true;
    }
    if (header.size() <= kHeaderBytesMax) continue;
    GiveBack();
    return true;
  }
  if (at_end && (header_begin_ > 0 || !HeaderName().empty())) GiveBack();
  return false;
}

std::string AnswerReader::HeaderName() const {
  std::string header = raw_.substr(header_begin_);
  std::string after;
  const size_t separator =
      tools_->separator.empty() ? std::string::npos : header.find(tools_->separator);
  if (separator != std::string::npos) {
    after = header.substr(separator + tools_->separator.size());
    header.resize(separator);
  }
  header.resize(std::min(header.find(kCallId), header.size()));
  for (std::string* part : {&header, &after}) {
    for (const std::string_view noise : tools_->noise) Erase(*part, noise);
    for (const std::string_view begin : tools_->begins) Erase(*part, begin);
    for (const std::string_view end : tools_->ends) Erase(*part, end);
  }
  const std::string_view name = Trim(after).empty() ? Trim(header) : Trim(after);
  return std::string(name);
}

bool AnswerReader::RunCall(bool at_end) {
  size_t taken = 0;
  CallScanner::State state = CallScanner::State::kGoesOn;
  while (taken < held_.size() && state == CallScanner::State::kGoesOn) {
    state = scanner_->Push(held_[taken++]);
  }
  if (state == CallScanner::State::kNoCall) --taken;
  if (!told_) raw_.append(held_, 0, taken);
  held_.erase(0, taken);
  if (scanner_->named()) AddCallDelta();
  switch (state) {
    case CallScanner::State::kGoesOn:
      if (at_end && !told_) GiveBack();
      return false;
    case CallScanner::State::kEnded:
      BeginCalls("");
      return true;
    case CallScanner::State::kNoCall:
      GiveBack();
      return true;
  }
  return false;
}

void AnswerReader::AddCallDelta() {
  ToolDelta delta{.arguments = scanner_->TakeArguments()};
  if (!told_) {
    delta.name = scanner_->name();
    delta.call = call_count_++;
  } else {
    delta.call = call_count_ - 1;
  }
  if (!std::exchange(told_, true) || !delta.arguments.empty())
    parts_.calls.push_back(std::move(delta));
  raw_.clear();
}

}  // namespace shoal::text
