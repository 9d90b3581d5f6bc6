#pragma once

// A model's manifest: a small JSON file beside it that says what its canaries must come to, written
// by `shoal verify MODEL --write` on a machine that is trusted.
//
//   {"format": "shoal-manifest", "version": 1, "model": "NAME",
//    "canaries": [{"numerics_id": HEX, "kv_dtype": "f16", "digest": HEX}, ...]}

#include <optional>
#include <string>
#include <vector>

namespace shoal::model {

struct ManifestCanary {
  std::string numerics_id;  // 32 hex digits: these weights, computed in this way.
  std::string kv_dtype;     // For readers of the file.
  std::string digest;       // CanaryDigest.

  bool operator==(const ManifestCanary&) const = default;
};

struct Manifest {
  std::string model;                     // Its name.
  std::vector<ManifestCanary> canaries;  // Each numerics id once.

  // Null: says nothing about that id. The numerics id has a digest of the weights, so of a model
  // that was changed after its manifest was written there is none.
  const ManifestCanary* Find(const std::string& numerics_id) const;

  bool operator==(const Manifest&) const = default;
};

// MODEL.gguf.manifest.json beside a file, shoal-manifest.json inside a folder.
std::string ManifestPath(const std::string& model_path);

// None if there is no such file. Errors: kInvalidArgument, naming the file and what is wrong with
// it, if it cannot be read or is not a whole manifest.
std::optional<Manifest> ReadManifest(const std::string& path);

// Whoever reads meanwhile sees the old one or the new one, whole. Errors: kFailed.
void WriteManifest(const std::string& path, const Manifest& manifest);

}  // namespace shoal::model
