// shoal verify: the digests of a model's answers, computed by a group of ranks, and their
// comparison with digests that were kept; and the model's manifest, which coordinators compare
// their groups' canaries with.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "coordinator/cli/support/cut_options.h"
#include "coordinator/cli/support/programs.h"
#include "coordinator/cli/verbs.h"
#include "coordinator/launch/local_group.h"
#include "parallel/model/files/manifest.h"
#include "transport/base/error.h"
#include "transport/config/group_flags.h"

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;

using Digests = nlohmann::ordered_json;  // {"logits": HEX, "sampled": HEX, "numerics_id": HEX}

constexpr std::string_view kDigest = "digest ";
// What --write without a file means; no file of that name can be asked for.
constexpr const char* kManifest = "\x01manifest";

struct VerifyOptions {
  CutOptions cut;
  std::string write;
  std::string against;
};

config::OptionTable MakeVerifyTable(VerifyOptions& options) {
  config::OptionTable table(
      {.program = "shoal verify",
       .usage = "MODEL [options] [--write [FILE] | --against FILE]",
       .summary = "Runs a few fixed prompts through a group of ranks and prints lines `digest "
                  "NAME HEX`: of all logits, of 64 sampled tokens, and the numerics id. They are "
                  "the same for every cut, number of threads and instruction set; where they "
                  "differ, something computes wrongly. A model that has a manifest must have the "
                  "canary that it tells of, too.",
       .epilog =
           "A file of digests is a JSON object: the model's name, and under it the three.\n"
           "\n"
           "A manifest is the JSON file MODEL.gguf.manifest.json, or shoal-manifest.json in a\n"
           "model's folder. A coordinator that finds one admits a group only if the group's\n"
           "canary comes to the digest that stands there.\n"
           "\n"
           "Exit status:\n"
           "  0  computed, and equal to --against, or to the manifest if there is one\n"
           "  1  different, the manifest is of another file, or failed while running\n"
           "  2  wrong usage, a bad model, an impossible cut, the model is not in --against,\n"
           "     a damaged manifest, or a file that cannot be written\n"
           "  4  the instruction set asked for is not there\n"});
  AddCut(table, options.cut);
  config::PassGroupFlag(table, "threads");
  AddCache(table, options.cut);
  config::PassGroupFlag(table, "comm");
  AddMemory(table, options.cut);
  table
      .AddString(
          "write", "[FILE]", options.write,
          "Keep the digests in this file; those of other models in it stay. Without FILE: "
          "write the model's manifest, for every --kv-dtype or for the one that is given. Do "
          "it on a machine you trust.")
      .implied = kManifest;
  table.AddString("against", "FILE", options.against, "Compare with the digests in this file.");
  return table;
}

// Before anything is computed, which takes long. Errors: kInvalidArgument, with the system's
// reason.
void CheckCanBeWritten(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected a file to write to, found something else");
  }
  fs::path place = path;
  if (!fs::exists(status)) place = place.has_parent_path() ? place.parent_path() : ".";
  if (access(place.c_str(), fs::exists(status) ? W_OK : W_OK | X_OK) == 0) return;
  Throw(ErrorCode::kInvalidArgument, path, ": cannot be written: ", place.string(), ": ",
        strerror(errno), "; make the folder, or name another file");
}

// Result: an empty object if there is no file. Errors: kInvalidArgument if it is not of that form,
// or cannot be read.
nlohmann::ordered_json ReadDigestFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT) return nlohmann::ordered_json::object();
    Throw(ErrorCode::kInvalidArgument, path, ": cannot be read: ", strerror(errno));
  }
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto content = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!content.is_object()) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected a JSON object of digests by model");
  }
  return content;
}

// Runs the ranks with these flags. Result: their exit status, with 1 for a signal; what they print
// goes to `digests`, and to stdout if `shown`.
int ComputeDigests(const VerifyOptions& options, const std::vector<std::string>& group_flags,
                   bool shown, Digests& digests) {
  launch::LocalGroupOptions group_options;
  group_options.rank_count = static_cast<int32_t>(options.cut.rank_count());
  group_options.worker = ProgramPath("shoal-worker");
  group_options.arguments = {"verify", options.cut.model};
  group_options.arguments.insert(group_options.arguments.end(), group_flags.begin(),
                                 group_flags.end());
  group_options.on_stdout = [&digests, shown](std::string_view line) {
    if (shown) std::cout << line << std::endl;
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
  if (!file) Throw(ErrorCode::kFailed, path, ": the digests cannot be written: ", strerror(errno));
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

// Result: the ranks' exit status.
int ComputeCanary(const VerifyOptions& options, std::vector<std::string> group_flags,
                  const std::string& kv_dtype, model::ManifestCanary& canary) {
  for (size_t i = 0; i + 1 < group_flags.size(); ++i) {
    if (group_flags[i] == "--kv-dtype") group_flags[i + 1] = kv_dtype;
  }
  group_flags.emplace_back("--canary");
  Digests found = Digests::object();
  if (const int status = ComputeDigests(options, group_flags, /*shown=*/false, found); status != 0)
    return status;
  canary = {.numerics_id = found.value("numerics_id", ""),
            .kv_dtype = kv_dtype,
            .digest = found.value("canary", "")};
  return 0;
}

// Of the cache formats that are asked for. Result: an exit status.
int WriteModelManifest(const VerifyOptions& options, const std::vector<std::string>& group_flags,
                       const std::string& model, const std::vector<std::string>& kv_dtypes) {
  model::Manifest manifest{.model = model, .canaries = {}};
  for (const std::string& kv_dtype : kv_dtypes) {
    model::ManifestCanary canary;
    if (const int status = ComputeCanary(options, group_flags, kv_dtype, canary); status != 0) {
      return status;
    }
    manifest.canaries.push_back(std::move(canary));
  }
  const std::string path = model::ManifestPath(options.cut.model);
  model::WriteManifest(path, manifest);
  for (const model::ManifestCanary& canary : manifest.canaries) {
    std::cout << "canary " << canary.numerics_id << " " << canary.digest << " (KV cache "
              << canary.kv_dtype << ")\n";
  }
  std::cout << "written: " << path << std::endl;
  return 0;
}

// Result: an exit status; says what differs.
int CompareWithManifest(const VerifyOptions& options, const std::vector<std::string>& group_flags,
                        const std::string& kv_dtype, const model::Manifest& manifest) {
  model::ManifestCanary found;
  if (const int status = ComputeCanary(options, group_flags, kv_dtype, found); status != 0) {
    return status;
  }
  const std::string path = model::ManifestPath(options.cut.model);
  const model::ManifestCanary* kept = manifest.Find(found.numerics_id);
  if (kept != nullptr && kept->digest == found.digest) {
    std::cout << "canary " << found.numerics_id << " " << found.digest << " as in " << path
              << std::endl;
    return 0;
  }
  const auto same_kind = std::find_if(
      manifest.canaries.begin(), manifest.canaries.end(),
      [&](const model::ManifestCanary& canary) { return canary.kv_dtype == kv_dtype; });
  std::cerr << "shoal verify: " << path << ": ";
  if (kept != nullptr) {
    std::cerr << "canary: expected " << kept->digest << " for the numerics id " << found.numerics_id
              << ", found " << found.digest
              << ": this machine computes wrongly, or the one that wrote the manifest did";
  } else if (same_kind != manifest.canaries.end()) {
    std::cerr << "the manifest is of another file: it tells of the numerics id "
              << same_kind->numerics_id << " with a " << kv_dtype << " cache, this model has "
              << found.numerics_id
              << "; if this model is the right one, write it anew with --write";
  } else {
    std::cerr << "has no canary with a " << kv_dtype
              << " cache: the manifest was written with another --kv-dtype; write it anew";
  }
  std::cerr << std::endl;
  return 1;
}

std::vector<std::string> KvDtypes(const config::OptionTable& table) {
  if (table.IsGiven("kv-dtype")) return {table.ValueText("kv-dtype")};
  return config::FindGroupFlag("kv-dtype").words();
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
  const bool writes_manifest = options.write == kManifest;
  if (!options.write.empty()) {
    CheckCanBeWritten(writes_manifest ? model::ManifestPath(options.cut.model) : options.write);
  }
  Digests kept;
  if (!options.against.empty()) {
    kept = ReadDigestFile(options.against).value(model->name(), Digests());
    if (!kept.is_object()) {
      Throw(ErrorCode::kInvalidArgument, options.against, ": has no digests of ", model->name(),
            ": make them with --write on a machine you trust");
    }
  }
  // A damaged one is told of before anything is computed.
  std::optional<model::Manifest> manifest;
  if (options.write.empty() && options.against.empty()) {
    manifest = model::ReadManifest(model::ManifestPath(options.cut.model));
  }
  const std::vector<std::string> group_flags = config::GroupArguments(table);
  Digests found = Digests::object();
  if (const int status = ComputeDigests(options, group_flags, /*shown=*/true, found); status != 0)
    return status;
  if (writes_manifest) {
    return WriteModelManifest(options, group_flags, model->name(), KvDtypes(table));
  }
  if (manifest) {
    return CompareWithManifest(options, group_flags, table.ValueText("kv-dtype"), *manifest);
  }
  if (!options.write.empty()) Write(options.write, model->name(), found);
  return options.against.empty() || Compare(options.against, kept, found) ? 0 : 1;
}

}  // namespace shoal::cli
