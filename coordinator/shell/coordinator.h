#pragma once

// A whole coordinator on one event loop: region, RPC port, HTTP gateway. `shoal-coordinator` is
// this and a signal handler; `shoal run` is this and a group that it launches itself.

#include <kj/async-io.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/core/region_options.h"
#include "coordinator/shell/region_service.h"
#include "transport/config/options.h"

namespace shoal::gateway {

struct CoordinatorOptions {
  std::string model;  // A .gguf file or a safetensors folder; read for its text side only.
  std::string bind = "127.0.0.1";
  std::string rpc_bind;     // Of the RPC port; empty: `bind`. No flag: `shoal run` sets it.
  int32_t port = 8000;      // 0: any free one.
  int32_t rpc_port = 7400;  // 0: any free one.
  std::string api_keys_file;
  bool strict_params = false;
  std::string group_token_file;
  std::string canary_digests;  // "ID=DIGEST,...".
  // But for model_name, which is the model's own, and canary_digests, which are those above.
  core::RegionOptions region;
};

// Rows for what clients see of it: HTTP port, served name, keys, strictness.
void AddServingOptions(config::OptionTable& table, CoordinatorOptions& options);

// Rows for all of the above but rpc_bind, and what of the region has a flag. `options` must outlive
// the table.
void AddCoordinatorOptions(config::OptionTable& table, CoordinatorOptions& options);

// Threading: owned by the event loop.
class Coordinator {
 public:
  // Opens the model's tokenizer and listens on both ports. `io` outlives it.
  // Errors: kInvalidArgument for a bad model, key file or token file, or a port in use.
  Coordinator(kj::AsyncIoContext& io, const CoordinatorOptions& options, RegionEvents events);
  ~Coordinator();

  uint16_t port() const;      // HTTP; the real one.
  uint16_t rpc_port() const;  // The real one.
  // "http://127.0.0.1:8000", with the address that it is bound to; what the `ready` line names.
  std::string url() const;
  const RegionService& region() const;

  // Refuses new work, ends the streams, dismisses the groups and lets answers out; resolves within
  // about `grace_ms`.
  kj::Promise<void> Stop(int64_t grace_ms);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace shoal::gateway
