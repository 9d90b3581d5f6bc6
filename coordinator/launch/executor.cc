#include "coordinator/launch/executor.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "coordinator/launch/process_watch.h"
#include "transport/base/error.h"

namespace shoal::launch {
namespace {

constexpr std::string_view kGroup = "{group}";
constexpr std::string_view kCoordinator = "{coordinator}";
constexpr std::string_view kTokenFile = "{token-file}";

// Both executors' groups are a child of this process and what is of its session.
class ChildGroup : public StartedGroup {
 public:
  ChildGroup(std::vector<std::string> command, std::string starter)
      : group_(std::move(command), std::move(starter), /*on_stdout=*/{}) {}
  explicit ChildGroup(const LocalGroupOptions& options) : group_(options) {}

  bool HasEnded() override { return group_.HasEnded(); }
  void Terminate() override { group_.Terminate(); }
  bool Kill() override { return group_.KillAll(); }
  GroupEnd TakeEnd() override { return group_.Abandon(); }
  const std::string& starter() const override { return group_.starter(); }
  void Watch(int32_t rank, int64_t pid) override {
    const auto process = static_cast<pid_t>(pid);
    ProcessWatch watch(process);
    // Asked after it is held: the number is that of this process then.
    if (getsid(process) != group_.session()) return;
    ranks_.push_back({Str("rank ", rank, " (pid ", pid, ")"), std::move(watch)});
  }
  std::string EndedRank() const override {
    const auto ended =
        std::ranges::find_if(ranks_, [](const Rank& rank) { return rank.process.HasEnded(); });
    return ended == ranks_.end() ? "" : ended->name;
  }

 private:
  struct Rank {
    std::string name;
    ProcessWatch process;
  };

  LocalGroup group_;
  std::vector<Rank> ranks_;
};

class WordSplitter {
 public:
  explicit WordSplitter(const std::string& text) : text_(text) {}

  std::vector<std::string> Split() {
    for (at_ = 0; at_ < text_.size(); ++at_) Take(text_[at_]);
    if (quote_ != 0) {
      Throw(ErrorCode::kInvalidArgument, "--executor-command: ", quote_,
            " has no second one: close the quotes");
    }
    EndWord();
    return std::move(words_);
  }

 private:
  void Take(char c) {
    if (c == '\\' && Escapes()) {
      if (const char escaped = text_[++at_]; escaped != '\n') Add(escaped);
    } else if (quote_ != 0) {
      if (c == quote_) {
        quote_ = 0;
      } else {
        Add(c);
      }
    } else if (c == '\'' || c == '"') {
      quote_ = c;
      in_word_ = true;  // '' is a word, too.
    } else if (c == ' ' || c == '\t' || c == '\n') {
      EndWord();
    } else {
      Add(c);
    }
  }
  // Whether the backslash at `at_` takes the next character's meaning away, as in a shell: one
  // before the end of a line joins it with the next.
  bool Escapes() const {
    constexpr std::string_view kInDoubleQuotes = "$`\"\\\n";
    if (quote_ == '\'' || at_ + 1 >= text_.size()) return false;
    return quote_ == 0 || kInDoubleQuotes.find(text_[at_ + 1]) != std::string_view::npos;
  }
  void Add(char c) {
    in_word_ = true;
    word_ += c;
  }
  void EndWord() {
    if (in_word_) words_.push_back(std::exchange(word_, {}));
    in_word_ = false;
  }

  const std::string& text_;
  size_t at_ = 0;
  char quote_ = 0;  // 0: not inside quotes.
  bool in_word_ = false;
  std::string word_;
  std::vector<std::string> words_;
};

std::string Replace(std::string text, std::string_view from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

std::unique_ptr<StartedGroup> LocalExecutor::Start(uint64_t group) {
  LocalGroupOptions options = group_;
  std::vector<std::string>& arguments = options.arguments;
  arguments.insert(arguments.end(), {"--coordinator", place_.coordinator});
  arguments.insert(arguments.end(), {"--group-number", std::to_string(group)});
  if (!place_.token_file.empty()) {
    arguments.insert(arguments.end(), {"--group-token-file", place_.token_file});
  }
  return std::make_unique<ChildGroup>(options);
}

CommandTemplate::CommandTemplate(const std::string& text) : words_(WordSplitter(text).Split()) {
  if (words_.empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "--executor-command is empty: give the command that starts a group, with {group} and "
          "{coordinator} where its number and the coordinator's address belong");
  }
  CheckPlaces();
  constexpr std::array<std::pair<std::string_view, const char*>, 2> kNeeded = {
      {{kCoordinator, "--coordinator {coordinator}"}, {kGroup, "--group-number {group}"}}};
  for (const auto& [placeholder, example] : kNeeded) {
    if (Has(std::string(placeholder))) continue;
    Throw(ErrorCode::kInvalidArgument, "--executor-command has no ", placeholder,
          ": the workers that it starts could not join as the group that they are; give them ",
          example);
  }
}

// {word}, of letters and dashes, is a place of ours; ${word} is a shell's, other braces anyone's.
void CommandTemplate::CheckPlaces() const {
  constexpr std::string_view kPlaceLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-";
  constexpr std::array kKnown = {kGroup, kCoordinator, kTokenFile};
  for (const std::string& word : words_) {
    for (size_t at = word.find('{'); at != std::string::npos; at = word.find('{', at + 1)) {
      const size_t end = word.find_first_not_of(kPlaceLetters, at + 1);
      const bool is_place = end != std::string::npos && word[end] == '}' && end > at + 1 &&
                            (at == 0 || word[at - 1] != '$');
      const std::string place = is_place ? word.substr(at, end + 1 - at) : "";
      if (!is_place || std::ranges::find(kKnown, place) != kKnown.end()) continue;
      Throw(ErrorCode::kInvalidArgument, "--executor-command has ", place,
            ", and nothing is known to put there: expected {group}, {coordinator} or {token-file}; "
            "other words in braces belong in a script that the command runs");
    }
  }
}

bool CommandTemplate::has_token_file() const { return Has(std::string(kTokenFile)); }

bool CommandTemplate::Has(const std::string& placeholder) const {
  return std::any_of(words_.begin(), words_.end(), [&](const std::string& word) {
    return word.find(placeholder) != std::string::npos;
  });
}

std::vector<std::string> CommandTemplate::Fill(uint64_t group, const GroupPlace& place) const {
  std::vector<std::string> words;
  for (const std::string& word : words_) {
    words.push_back(Replace(
        Replace(Replace(word, kGroup, std::to_string(group)), kCoordinator, place.coordinator),
        kTokenFile, place.token_file));
  }
  return words;
}

CommandExecutor::CommandExecutor(CommandTemplate command, GroupPlace place)
    : command_(std::move(command)), place_(std::move(place)) {
  if (command_.has_token_file() && place_.token_file.empty()) {
    Throw(ErrorCode::kInvalidArgument,
          "--executor-command has {token-file}, and there is none: give --group-token-file");
  }
}

std::unique_ptr<StartedGroup> CommandExecutor::Start(uint64_t group) {
  return std::make_unique<ChildGroup>(command_.Fill(group, place_), "the command");
}

}  // namespace shoal::launch
