#include "parallel/model/files/manifest.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "parallel/model/files/refuse.h"

namespace shoal::model {
namespace {

using ManifestJson = nlohmann::ordered_json;

constexpr const char* kManifestFormat = "shoal-manifest";
constexpr int64_t kManifestVersion = 1;
constexpr std::streamoff kManifestBytesMax = 1 << 20;
constexpr size_t kHashDigits = 32;

[[noreturn]] void RefuseManifest(const std::string& path, const std::string& why) {
  Refuse(path, why, ": write it again with `shoal verify MODEL --write`, or remove it");
}

const ManifestJson& ManifestField(const std::string& path, const ManifestJson& object,
                                  const std::string& where, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) RefuseManifest(path, Str(where, " has no \"", name, "\""));
  return *found;
}

std::string ManifestText(const std::string& path, const ManifestJson& object,
                         const std::string& where, const char* name) {
  const ManifestJson& value = ManifestField(path, object, where, name);
  if (!value.is_string()) {
    RefuseManifest(
        path, Str(where, ": expected \"", name, "\" to be a string, found ", Quoted(value.dump())));
  }
  return value.get<std::string>();
}

std::string ManifestHash(const std::string& path, const ManifestJson& object,
                         const std::string& where, const char* name) {
  std::string text = ManifestText(path, object, where, name);
  const bool is_hash =
      text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!is_hash) {
    RefuseManifest(path, Str(where, ": expected \"", name, "\" to be ", kHashDigits,
                             " lowercase hex digits, found ", Quoted(text)));
  }
  return text;
}

void CheckManifestHead(const std::string& path, const ManifestJson& content) {
  if (!content.is_object()) RefuseManifest(path, "expected a JSON object, found something else");
  const std::string format = ManifestText(path, content, "the manifest", "format");
  if (format != kManifestFormat) {
    RefuseManifest(path, Str("expected the format ", kManifestFormat, ", found ", Quoted(format)));
  }
  const ManifestJson& version = ManifestField(path, content, "the manifest", "version");
  if (version != kManifestVersion) {
    RefuseManifest(path,
                   Str("expected version ", kManifestVersion, ", found ", Quoted(version.dump())));
  }
}

void WriteWhole(int fd, const std::string& bytes, const std::string& path) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) Throw(ErrorCode::kFailed, path, " cannot be written: ", strerror(errno));
    done += static_cast<size_t>(count);
  }
  if (fsync(fd) != 0) Throw(ErrorCode::kFailed, path, " cannot be written: ", strerror(errno));
}

void WriteNew(const std::string& path, const std::string& bytes) {
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) Throw(ErrorCode::kFailed, path, " cannot be made: ", strerror(errno));
  try {
    WriteWhole(fd, bytes, path);
  } catch (...) {  // Rethrown: only closes.
    close(fd);
    throw;
  }
  close(fd);
}

// So that the new name outlives a power cut. Where a folder cannot be opened it is left to the
// system.
void SyncFolder(const std::filesystem::path& folder) {
  const int fd = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

}  // namespace

const ManifestCanary* Manifest::Find(const std::string& numerics_id) const {
  const auto found =
      std::find_if(canaries.begin(), canaries.end(),
                   [&](const ManifestCanary& canary) { return canary.numerics_id == numerics_id; });
  return found == canaries.end() ? nullptr : &*found;
}

std::string ManifestPath(const std::string& model_path) {
  std::error_code error;
  if (std::filesystem::is_directory(model_path, error)) {
    return std::filesystem::path(model_path) / "shoal-manifest.json";
  }
  return model_path + ".manifest.json";
}

std::optional<Manifest> ReadManifest(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) Refuse(path, "cannot be read: ", strerror(errno));
  if (file.tellg() > kManifestBytesMax) {
    RefuseManifest(path, Str("is larger than ", kManifestBytesMax, " bytes"));
  }
  file.seekg(0);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const ManifestJson content = ManifestJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (content.is_discarded()) RefuseManifest(path, "is not JSON: it may have been cut short");
  CheckManifestHead(path, content);
  Manifest manifest;
  manifest.model = ManifestText(path, content, "the manifest", "model");
  const ManifestJson& canaries = ManifestField(path, content, "the manifest", "canaries");
  if (!canaries.is_array()) RefuseManifest(path, "expected \"canaries\" to be an array");
  std::set<std::string> ids;
  for (const ManifestJson& entry : canaries) {
    const std::string where = Str("canary ", manifest.canaries.size());
    if (!entry.is_object()) RefuseManifest(path, Str(where, " is not an object"));
    ManifestCanary& canary = manifest.canaries.emplace_back();
    canary.numerics_id = ManifestHash(path, entry, where, "numerics_id");
    canary.kv_dtype = ManifestText(path, entry, where, "kv_dtype");
    canary.digest = ManifestHash(path, entry, where, "digest");
    if (!ids.insert(canary.numerics_id).second) {
      RefuseManifest(path, Str("it names ", canary.numerics_id, " twice"));
    }
  }
  return manifest;
}

void WriteManifest(const std::string& path, const Manifest& manifest) {
  ManifestJson content = {{"format", kManifestFormat},
                          {"version", kManifestVersion},
                          {"model", manifest.model},
                          {"canaries", ManifestJson::array()}};
  for (const ManifestCanary& canary : manifest.canaries) {
    content["canaries"].push_back({{"numerics_id", canary.numerics_id},
                                   {"kv_dtype", canary.kv_dtype},
                                   {"digest", canary.digest}});
  }
  const std::string temporary = Str(path, ".", getpid(), ".tmp");
  try {
    WriteNew(temporary, content.dump(2) + "\n");
    if (std::rename(temporary.c_str(), path.c_str()) != 0) {
      Throw(ErrorCode::kFailed, path, " cannot be written: ", strerror(errno));
    }
  } catch (...) {  // Rethrown: leaves nothing behind.
    unlink(temporary.c_str());
    throw;
  }
  SyncFolder(std::filesystem::path(path).parent_path());
}

}  // namespace shoal::model
