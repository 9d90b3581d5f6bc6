// One list of options serves the command line, the file and --help.

#include "transport/config/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::config {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

enum class Dtype { kF16, kF32 };

struct Fields {
  std::string model;
  std::string name = "shoal";
  int64_t tokens = 512;
  int32_t ranks = 1;
  double factor = 0.5;
  bool verbose = false;
  Dtype dtype = Dtype::kF16;
};

class OptionTableTest : public ::testing::Test {
 protected:
  OptionTableTest() {
    table_.AddPositional("model", fields_.model, "The model's file or folder.");
    table_.AddString("served-name", "NAME", fields_.name, "What requests call it.");
    table_.AddInt("prefill-tokens", "N", fields_.tokens, {1, INT64_MAX}, "Rows of a step.");
    table_.AddInt("tensor-parallel", "N", fields_.ranks, {1, 256}, "Ranks of a stage.");
    table_.AddDouble("factor", "X", fields_.factor, {0, 1}, "A share.");
    table_.AddBool("verbose", fields_.verbose, "Say more.");
    table_.AddChoice<Dtype>("kv-dtype", fields_.dtype, {{"f16", Dtype::kF16}, {"f32", Dtype::kF32}},
                            "Of the cache.");
  }
  ~OptionTableTest() override { std::filesystem::remove(path_); }

  std::string File(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }
  ParseOutcome Parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "program");
    return table_.Parse(static_cast<int>(arguments.size()), arguments.data());
  }
  std::string Refusal(const std::vector<const char*>& arguments) {
    try {
      static_cast<void>(Parse(arguments));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  }
  std::string FileRefusal(const std::string& text) {
    const std::string path = File(text);
    return Refusal({"m", "--config", path.c_str()});
  }

  Fields fields_;
  OptionTable table_{{.program = "shoal-test",
                      .usage = "MODEL [options]",
                      .summary = "Tests options.",
                      .epilog = "Exit status:\n  0  done\n"}};
  const std::string path_ =
      std::filesystem::temp_directory_path() /
      (std::string("shoal_options_") +
       ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".yaml");
};

TEST_F(OptionTableTest, KeepsTheDefaultsOfWhatIsNotGiven) {
  EXPECT_EQ(Parse({"m.gguf"}), ParseOutcome::kRun);
  EXPECT_EQ(fields_.model, "m.gguf");
  EXPECT_EQ(fields_.tokens, 512);
  EXPECT_EQ(fields_.dtype, Dtype::kF16);
  EXPECT_FALSE(table_.IsGiven("prefill-tokens"));
}

TEST_F(OptionTableTest, TakesEveryTypeFromTheCommandLine) {
  EXPECT_EQ(Parse({"--tensor-parallel", "3", "m", "--prefill-tokens=9", "--factor", "0.25",
                   "--verbose", "--kv-dtype", "f32", "--served-name", "-x"}),
            ParseOutcome::kRun);
  EXPECT_EQ(fields_.ranks, 3);
  EXPECT_EQ(fields_.tokens, 9);
  EXPECT_EQ(fields_.factor, 0.25);
  EXPECT_TRUE(fields_.verbose);
  EXPECT_EQ(fields_.dtype, Dtype::kF32);
  EXPECT_TRUE(table_.IsGiven("kv-dtype"));
}

TEST_F(OptionTableTest, TakesEveryTypeFromTheFile) {
  const std::string path = File(
      "# A comment.\nmodel: m\nserved_name: \"123\"\nprefill_tokens: 7\nfactor: 1\nverbose: true\n"
      "kv_dtype: f32\n");
  EXPECT_EQ(Parse({"--config", path.c_str()}), ParseOutcome::kRun);
  EXPECT_EQ(fields_.model, "m");
  EXPECT_EQ(fields_.name, "123");
  EXPECT_EQ(fields_.tokens, 7);
  EXPECT_EQ(fields_.factor, 1);
  EXPECT_TRUE(fields_.verbose);
  EXPECT_EQ(fields_.dtype, Dtype::kF32);
}

TEST_F(OptionTableTest, LetsTheCommandLineWinOverTheFile) {
  const std::string path = File("tensor_parallel: 4\nprefill_tokens: 8\n");
  EXPECT_EQ(Parse({"m", "--config", path.c_str(), "--tensor-parallel", "2"}), ParseOutcome::kRun);
  EXPECT_EQ(fields_.ranks, 2);
  EXPECT_EQ(fields_.tokens, 8);
}

TEST_F(OptionTableTest, NamesTheFlagAndWhatItExpects) {
  EXPECT_EQ(Refusal({"m", "--tensor-parallel", "0"}),
            "--tensor-parallel: expected an integer from 1 to 256, found '0'");
  EXPECT_THAT(Refusal({"m", "--tensor-parallel", "2x"}), HasSubstr("found '2x'"));
  EXPECT_THAT(Refusal({"m", "--prefill-tokens", "99999999999999999999"}),
              HasSubstr("--prefill-tokens: expected an integer of at least 1"));
  EXPECT_THAT(Refusal({"m", "--factor", "nan"}), HasSubstr("a number from 0 to 1"));
  EXPECT_THAT(Refusal({"m", "--kv-dtype", "f8"}), HasSubstr("expected one of f16|f32, found 'f8'"));
  EXPECT_THAT(Refusal({"m", "--served-name", ""}), HasSubstr("--served-name"));
  EXPECT_THAT(Refusal({"m", "--factor"}), HasSubstr("--factor"));
  EXPECT_THAT(Refusal({"m", "--factor", "1", "--factor", "1"}), HasSubstr("found 2 times"));
}

TEST_F(OptionTableTest, SuggestsTheFlagThatWasMeant) {
  EXPECT_THAT(Refusal({"m", "--tensor-paralel", "2"}),
              HasSubstr("unknown argument --tensor-paralel, did you mean --tensor-parallel?"));
  EXPECT_THAT(Refusal({"m", "--quux=1"}),
              AllOf(HasSubstr("unknown argument --quux"), Not(HasSubstr("did you mean"))));
  EXPECT_THAT(Refusal({"m", "second"}), HasSubstr("unknown argument second"));
}

TEST_F(OptionTableTest, SaysWhatIsRequired) {
  EXPECT_THAT(Refusal({"--verbose"}), HasSubstr("MODEL is required"));
}

TEST_F(OptionTableTest, NamesFileLineAndKey) {
  EXPECT_EQ(FileRefusal("\ntensor_paralel: 2\n"),
            path_ + ", line 2: tensor_paralel is no known key, did you mean tensor_parallel?");
  EXPECT_EQ(FileRefusal("verbose: true\ntensor_parallel: two\n"),
            path_ + ", line 2: tensor_parallel: expected an integer from 1 to 256, found 'two'");
  EXPECT_THAT(FileRefusal("tensor_parallel: \"2\"\n"), HasSubstr("found the text '2'"));
  EXPECT_THAT(FileRefusal("verbose: 1\n"), HasSubstr("line 1: verbose: expected true or false"));
  EXPECT_THAT(FileRefusal("factor: [1]\n"), HasSubstr("line 1: factor: expected one value"));
  EXPECT_THAT(FileRefusal("factor:\n"), HasSubstr("expected one value, found none"));
  EXPECT_THAT(FileRefusal("factor: 1\n\nfactor: 1\n"), HasSubstr("line 3: factor"));
  EXPECT_THAT(FileRefusal("factor: 1\n  bad: [\n"), HasSubstr(", line "));
  EXPECT_THAT(FileRefusal("- factor\n"), HasSubstr("expected lines of 'key: value'"));
  EXPECT_THAT(FileRefusal("tensor-parallel: 2\n"), HasSubstr("did you mean tensor_parallel?"));
}

TEST_F(OptionTableTest, SaysThatAFileCannotBeRead) {
  EXPECT_THAT(Refusal({"m", "--config", "/nonexistent/a.yaml"}),
              HasSubstr("/nonexistent/a.yaml: the configuration file cannot be read"));
}

TEST_F(OptionTableTest, ReadsAnEmptyFileAsNoKeys) {
  const std::string path = File("# Nothing.\n");
  EXPECT_EQ(Parse({"m", "--config", path.c_str()}), ParseOutcome::kRun);
}

TEST_F(OptionTableTest, PrintsHelpAndVersionWithoutReadingTheRest) {
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(Parse({"--nonsense", "--help"}), ParseOutcome::kPrinted);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), table_.Help());
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(Parse({"--version"}), ParseOutcome::kPrinted);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "shoal-test 0.1.0\n");
}

TEST_F(OptionTableTest, ListsEveryOptionInTheHelpWithItsDefault) {
  const std::string help = table_.Help();
  EXPECT_THAT(help, AllOf(HasSubstr("Usage: shoal-test MODEL [options]"), HasSubstr("Required:"),
                          HasSubstr("--kv-dtype f16|f32"), HasSubstr("Exit status:")));
  EXPECT_THAT(help, HasSubstr("Rows of a step. [512]"));
  for (const Option& option : table_.options()) EXPECT_THAT(help, HasSubstr(option.Flag()));
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
}

TEST_F(OptionTableTest, PassesOnTheFlagsOfAGroupAsTheyWereGiven) {
  int32_t tensor_parallel = 2;
  std::string own;
  OptionTable table({.program = "shoal test"});
  AddGroupFlag(table, "tensor-parallel", tensor_parallel);
  table.AddString("own", "TEXT", own, "Of this program.");
  for (const char* name : {"batch-delay-max-ms", "prefix-cache", "comm", "sequences-max"}) {
    PassGroupFlag(table, name);
  }
  const std::string file = File("batch_delay_max_ms: 7\nprefix_cache: off\ncomm: shm\n");
  const char* arguments[] = {"program", "--comm", "tcp", "--own", "x", "--config", file.c_str()};
  EXPECT_EQ(table.Parse(7, arguments), ParseOutcome::kRun);
  EXPECT_THAT(GroupArguments(table),
              ElementsAre("--tensor-parallel", "2", "--batch-delay-max-ms", "7", "--prefix-cache",
                          "off", "--comm", "tcp", "--sequences-max", "32"));
}

TEST_F(OptionTableTest, ChecksTheFlagsOfAGroupThatItOnlyPassesOn) {
  PassGroupFlag(table_, "comm");
  PassGroupFlag(table_, "batch-queue-min");
  EXPECT_EQ(Refusal({"m", "--comm", "pigeon"}),
            "--comm: expected one of auto|shm|tcp|mpi, found 'pigeon'");
  EXPECT_EQ(Refusal({"m", "--batch-queue-min", "-1"}),
            "--batch-queue-min: expected an integer from 0 to 1048576, found '-1'");
  EXPECT_THAT(table_.Help(), HasSubstr("auto|shm|tcp|mpi"));
}

TEST(OptionTable, TakesAFlagWithoutItsValueWhereOneIsImplied) {
  const auto parse = [](std::vector<const char*> arguments) {
    std::string model;
    std::string write;
    OptionTable table({.program = "program"});
    table.AddPositional("model", model, "A model.");
    table.AddString("write", "[FILE]", write, "Where to.").implied = "beside";
    arguments.insert(arguments.begin(), "program");
    EXPECT_EQ(table.Parse(static_cast<int>(arguments.size()), arguments.data()),
              ParseOutcome::kRun);
    return Str(model, " ", write, " ", table.IsGiven("write"));
  };
  EXPECT_EQ(parse({"m"}), "m  0");
  EXPECT_EQ(parse({"m", "--write"}), "m beside 1");
  EXPECT_EQ(parse({"m", "--write", "file"}), "m file 1");
  EXPECT_EQ(parse({"--write=file", "m"}), "m file 1");
}

}  // namespace
}  // namespace shoal::config
