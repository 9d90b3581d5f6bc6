// Commands that start groups, and what is left of them.

#include "coordinator/launch/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string_view>

#include "coordinator/launch/launch_options.h"
#include "coordinator/launch/process_watch.h"
#include "tests/support/patience.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const GroupPlace kPlace{.coordinator = "node1:7400", .token_file = "/etc/token"};

std::string Refusal(const std::string& text) {
  try {
    CommandTemplate{text};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(CommandTemplate, FillsInWhatAGroupNeedsToJoin) {
  const CommandTemplate command(
      "srun -N 2 shoal-worker --coordinator {coordinator} --group-number={group} "
      "--group-token-file {token-file} --note {group}/{group}");
  EXPECT_TRUE(command.has_token_file());
  EXPECT_THAT(
      command.Fill(12, kPlace),
      ElementsAre("srun", "-N", "2", "shoal-worker", "--coordinator", "node1:7400",
                  "--group-number=12", "--group-token-file", "/etc/token", "--note", "12/12"));
}

TEST(CommandTemplate, SplitsWordsAsAShellDoes) {
  const CommandTemplate command(
      R"(a  'b c' "d 'e'" f\ g "h\"i" '' 'j'k"l" '\' "m\n\\\$" \o --at {coordinator} {group})");
  EXPECT_THAT(command.Fill(0, kPlace),
              ElementsAre("a", "b c", "d 'e'", "f g", "h\"i", "", "jkl", "\\", "m\\n\\$", "o",
                          "--at", "node1:7400", "0"));
}

TEST(CommandTemplate, KeepsAnAddressWithSpacesOneWord) {
  EXPECT_THAT(CommandTemplate("run {coordinator} {group}").Fill(1, {"a b", "{group}"}),
              ElementsAre("run", "a b", "1"));
}

TEST(CommandTemplate, RefusesWhatCannotStartAGroup) {
  EXPECT_THAT(Refusal(""), HasSubstr("--executor-command is empty"));
  EXPECT_THAT(Refusal("  "), HasSubstr("--executor-command is empty"));
  EXPECT_THAT(Refusal("run {group}"), HasSubstr("has no {coordinator}"));
  EXPECT_THAT(Refusal("run {coordinator}"), HasSubstr("give them --group-number {group}"));
  EXPECT_THAT(Refusal("run 'a {coordinator} {group}"), HasSubstr("' has no second one"));
}

TEST(CommandTemplate, RefusesPlacesThatItDoesNotKnow) {
  const std::string rest = " {coordinator} {group}";
  for (const char* place : {"{groop}", "{token_file}", "{tokenfile}", "{Group}", "{token--file}"}) {
    const std::string refusal = Refusal(Str("run --x=", place, rest));
    if (std::string_view(place).find('_') != std::string_view::npos) {
      EXPECT_EQ(refusal, "") << "it is none of ours: letters and dashes only";
      continue;
    }
    EXPECT_THAT(refusal, HasSubstr(Str("has ", place)));
    EXPECT_THAT(refusal, HasSubstr("expected {group}, {coordinator} or {token-file}"));
  }
  // A shell's, and what nobody takes for a place.
  for (const char* text :
       {"sh -c 'echo ${HOME} ${x}{a,b} {} {1..3} { x; }'", "run a{b", "run '{a b}'"}) {
    EXPECT_EQ(Refusal(text + rest), "") << text;
  }
  EXPECT_THAT(CommandTemplate("run ${HOME}/{group} {coordinator}").Fill(1, kPlace),
              ElementsAre("run", "${HOME}/1", "node1:7400"));
}

TEST(CommandExecutor, WantsTheTokenFileThatItsCommandShows) {
  const CommandTemplate command("run {coordinator} {group} {token-file}");
  EXPECT_THROW(CommandExecutor(command, {"node1:7400", ""}), Error);
  EXPECT_NO_THROW(CommandExecutor(command, kPlace));
}

TEST(CheckLaunchOptions, RefusesGroupsThatNobodyStarts) {
  LaunchOptions options;
  EXPECT_NO_THROW(CheckLaunchOptions(options, false));
  options.relaunch = false;
  EXPECT_THROW(CheckLaunchOptions(options, false), Error);
  options.relaunch = true;
  options.groups = 2;
  EXPECT_THROW(CheckLaunchOptions(options, false), Error);
  options.executor = ExecutorKind::kLocal;
  EXPECT_NO_THROW(CheckLaunchOptions(options, false));
  options.command = "run {coordinator} {group}";
  EXPECT_THROW(CheckLaunchOptions(options, false), Error);
  options.executor = ExecutorKind::kCommand;
  EXPECT_NO_THROW(CheckLaunchOptions(options, false));
  options.command += " {token-file}";
  EXPECT_THROW(CheckLaunchOptions(options, false), Error);
  EXPECT_NO_THROW(CheckLaunchOptions(options, true));
}

// A coordinator's table, parsed from these flags.
std::string FlagRefusal(ExecutorKind executor, const std::vector<std::string>& flags) {
  config::OptionTable table({.program = "test", .usage = "", .summary = "", .epilog = ""});
  for (const config::GroupFlag& flag : config::GroupFlags()) {
    config::PassGroupFlag(table, flag.name);
  }
  std::vector<const char*> words = {"test"};
  for (const std::string& flag : flags) words.push_back(flag.c_str());
  EXPECT_EQ(table.Parse(static_cast<int>(words.size()), words.data()), config::ParseOutcome::kRun);
  LaunchOptions options;
  options.executor = executor;
  constexpr std::array<std::string_view, 1> kShared = {"context-tokens-max"};
  try {
    CheckGroupFlagsAreHeeded(table, options, kShared);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(CheckGroupFlagsAreHeeded, RefusesWhatOnlyLocalGroupsWouldHeed) {
  for (const config::GroupFlag& flag : config::GroupFlags()) {
    const std::string value = flag.is_choice() ? flag.words().back() : "3";
    const std::vector<std::string> flags = {Str("--", flag.name), value};
    const bool is_default = value == flag.default_text;
    EXPECT_EQ(FlagRefusal(ExecutorKind::kLocal, flags), "") << flag.name;
    if (flag.name == "context-tokens-max" || is_default) {
      EXPECT_EQ(FlagRefusal(ExecutorKind::kNone, flags), "") << flag.name;
      continue;
    }
    EXPECT_THAT(FlagRefusal(ExecutorKind::kNone, flags),
                HasSubstr(Str("--", flag.name, " ", value, " is for groups of --executor local")));
    EXPECT_THAT(FlagRefusal(ExecutorKind::kCommand, flags),
                HasSubstr("give it to the shoal-worker in --executor-command"));
  }
  EXPECT_EQ(FlagRefusal(ExecutorKind::kNone, {}), "");
  // As a configuration file that lists every key has it.
  EXPECT_EQ(FlagRefusal(ExecutorKind::kNone, {"--tensor-parallel", "1", "--comm", "auto"}), "");
}

TEST(FillInShare, LeavesWhatTheUserHasSet) {
  std::vector<std::string> flags = {"--threads",         "0", "--memory-bytes-max",   "0",
                                    "--kv-cache-tokens", "0", "--kv-cache-bytes-max", "0"};
  FillInShare({.threads = 2, .memory_bytes = 1000}, flags);
  EXPECT_THAT(flags, ElementsAre("--threads", "2", "--memory-bytes-max", "1000",
                                 "--kv-cache-tokens", "0", "--kv-cache-bytes-max", "0"));
  flags = {"--threads", "7", "--memory-bytes-max", "5", "--kv-cache-bytes-max", "6"};
  FillInShare({.threads = 2, .memory_bytes = 1000}, flags);
  EXPECT_THAT(
      flags, ElementsAre("--threads", "7", "--memory-bytes-max", "5", "--kv-cache-bytes-max", "6"));
}

// A group that a shell stands for.
std::unique_ptr<StartedGroup> StartShell(const std::string& script) {
  return CommandExecutor(CommandTemplate("sh -c '" + script + "' {coordinator} {group}"), kPlace)
      .Start(3);
}

template <typename Condition>
bool WaitUntil(Condition condition) {
  const SteadyClock clock;
  const Deadline deadline = Deadline::After(clock, test::kPatienceMs);
  while (!condition()) {
    if (deadline.Passed(clock)) return false;
  }
  return true;
}

TEST(CommandExecutor, SaysHowItsCommandEnded) {
  const auto group = StartShell("echo the reason >&2; exit 5");
  ASSERT_TRUE(WaitUntil([&] { return group->HasEnded(); }));
  ASSERT_TRUE(WaitUntil([&] { return group->Kill(); }));
  const GroupEnd end = group->TakeEnd();
  EXPECT_EQ(end.Text(), "the command exited with status 5");
  EXPECT_EQ(end.last_words, "the reason");
}

TEST(CommandExecutor, EndsAllThatItsCommandHasStarted) {
  const auto group = StartShell("sleep 1000 & sleep 1000 & wait");
  EXPECT_FALSE(group->HasEnded());
  group->Kill();
  ASSERT_TRUE(WaitUntil([&] { return group->Kill(); }));
  EXPECT_EQ(group->TakeEnd().signal, SIGKILL);
}

TEST(CommandExecutor, DoesNotWaitForWhoeverHasLeftTheSessionAndHoldsItsOutput) {
  const auto group = StartShell("setsid sleep 1 & exit 0");
  ASSERT_TRUE(WaitUntil([&] { return group->HasEnded(); }));
  ASSERT_TRUE(WaitUntil([&] { return group->Kill(); }));
  EXPECT_TRUE(group->TakeEnd().clean());
}

TEST(CommandExecutor, AsksItsCommandToEnd) {
  const auto group = StartShell("trap \"exit 0\" TERM; echo up >&2; while :; do sleep 0.01; done");
  ASSERT_TRUE(WaitUntil([&] {
    group->Terminate();
    return group->HasEnded();
  }));
  ASSERT_TRUE(WaitUntil([&] { return group->Kill(); }));
}

TEST(ProcessWatch, SeesAProcessEndThatNobodyHasAskedForItsStatus) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const ProcessWatch watch(child);
  EXPECT_FALSE(watch.HasEnded());
  kill(child, SIGKILL);
  EXPECT_TRUE(WaitUntil([&] { return watch.HasEnded(); }));
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(watch.HasEnded());
}

TEST(CommandExecutor, CannotStartWhatIsNotThere) {
  EXPECT_THROW(
      CommandExecutor(CommandTemplate("/nowhere/at/all {coordinator} {group}"), kPlace).Start(0),
      Error);
}

}  // namespace
}  // namespace shoal::launch
