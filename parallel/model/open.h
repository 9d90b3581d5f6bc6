#pragma once

// Models from bytes in memory: what Model::Open does with a mapped file, for tests and fuzzing.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "parallel/model/model.h"

namespace shoal::model {

// A model whose tensors point into `gguf_bytes`, which must outlive it. `path` becomes path() and
// names the model in messages. Errors: as Model::Open.
std::unique_ptr<Model> OpenGgufBytes(std::span<const std::byte> gguf_bytes,
                                     const std::string& path);

}  // namespace shoal::model
