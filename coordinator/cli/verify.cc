// shoal verify: the digests of a model's answers, computed by a group of ranks, and their
// comparison with digests that were kept.

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "coordinator/cli/support/cut_options.h"
#include "coordinator/cli/support/programs.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/launch/local_group.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {
namespace {

using Digests = nlohmann::ordered_json;  // {"logits": HEX, "sampled": HEX, "numerics_id": HEX}

constexpr std::string_view kDigest = "digest ";

struct VerifyOptions {
  CutOptions cut;
  std::string write;
  std::string against;
};

config::OptionTable MakeVerifyTable(VerifyOptions& options) {
  config::OptionTable table(
      {.program = "shoal verify",
       .usage = "MODEL [options] [--write FILE | --against FILE]",
       .summary = "Runs a few fixed prompts through a group of ranks and prints lines `digest "
                  "NAME HEX`: of all logits, of 64 sampled tokens, and the numerics id. They are "
                  "the same for every cut, number of threads and instruction set; where they "
                  "differ, something computes wrongly.",
       .epilog = "A file of digests is a JSON object: the model's name, and under it the three.\n"
                 "\n"
                 "Exit status:\n"
                 "  0  computed, and equal to --against\n"
                 "  1  different, or failed while running\n"
                 "  2  wrong usage, a bad model, an impossible cut, the model is not in --against\n"
                 "  4  the instruction set asked for is not there\n"});
  AddCut(table, options.cut);
  config::PassGroupFlag(table, "threads");
  AddCache(table, options.cut);
  config::PassGroupFlag(table, "comm");
  AddMemory(table, options.cut);
  table.AddString("write", "FILE", options.write,
                  "Keep the digests in this file; those of other models in it stay.");
  table.AddString("against", "FILE", options.against, "Compare with the digests in this file.");
  return table;
}

// Result: an empty object if there is no file. Errors: kInvalidArgument if it is not of that form.
nlohmann::ordered_json ReadDigestFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return nlohmann::ordered_json::object();
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto content = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!content.is_object()) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected a JSON object of digests by model");
  }
  return content;
}

// Runs the ranks with these flags. Result: their exit status, with 1 for a signal; what they print
// goes to `digests` and stdout.
int ComputeDigests(const VerifyOptions& options, const std::vector<std::string>& group_flags,
                   Digests& digests) {
  launch::LocalGroupOptions group_options;
  group_options.rank_count = static_cast<int32_t>(options.cut.rank_count());
  group_options.worker = ProgramPath("shoal-worker");
  group_options.arguments = {"verify", options.cut.model};
  group_options.arguments.insert(group_options.arguments.end(), group_flags.begin(),
                                 group_flags.end());
  group_options.on_stdout = [&digests](std::string_view line) {
    std::cout << line << std::endl;
    const size_t space = line.rfind(' ');
    if (!line.starts_with(kDigest) || space <= kDigest.size()) return;
    digests[std::string(line.substr(kDigest.size(), space - kDigest.size()))] =
        std::string(line.substr(space + 1));
  };
  launch::LocalGroup group(group_options);
  constexpr int64_t kLookMs = 1'000;
  std::optional<launch::GroupEnd> end;
  while (!end) end = group.WaitFor(kLookMs);
  if (end->status == 0 && end->signal == 0) return 0;
  std::cerr << "shoal verify: " << end->Text() << std::endl;
  return end->signal == 0 ? end->status : 1;
}

void Write(const std::string& path, const std::string& model, const Digests& digests) {
  nlohmann::ordered_json content = ReadDigestFile(path);
  content[model] = digests;
  std::ofstream file(path, std::ios::trunc);
  file << content.dump(2) << "\n";
  file.close();
  if (!file) Throw(ErrorCode::kFailed, path, ": the digests cannot be written");
}

// Result: whether they are equal; prints each difference.
bool Compare(const std::string& path, const Digests& kept, const Digests& found) {
  bool equal = true;
  for (const auto& [name, value] : kept.items()) {
    const std::string now = found.value(name, "nothing");
    if (value == now) continue;
    std::cerr << "shoal verify: " << name << ": expected " << value.get<std::string>() << " of "
              << path << ", found " << now << std::endl;
    equal = false;
  }
  return equal;
}

}  // namespace

int VerifyVerb(int argc, const char* const* argv) {
  VerifyOptions options;
  config::OptionTable table = MakeVerifyTable(options);
  if (table.Parse(argc, argv) == config::ParseOutcome::kPrinted) return 0;
  if (!options.write.empty() && !options.against.empty()) {
    Throw(ErrorCode::kInvalidArgument, "--write and --against: expected one of them");
  }
  const auto model = model::Model::Open(options.cut.model);
  Plan(*model, options.cut);
  Digests kept;
  if (!options.against.empty()) {
    kept = ReadDigestFile(options.against).value(model->name(), Digests());
    if (!kept.is_object()) {
      Throw(ErrorCode::kInvalidArgument, options.against, ": has no digests of ", model->name(),
            ": make them with --write on a machine you trust");
    }
  }
  Digests found = Digests::object();
  if (const int status = ComputeDigests(options, config::GroupArguments(table), found); status != 0)
    return status;
  if (!options.write.empty()) Write(options.write, model->name(), found);
  return options.against.empty() || Compare(options.against, kept, found) ? 0 : 1;
}

}  // namespace shoal::cli
