#pragma once

// A whole coordinator on one event loop: region, RPC port, HTTP gateway. `shoal-coordinator` is
// this and a signal handler; `shoal run` is this with groups that it starts on this machine.

#include <kj/async-io.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/core/region_options.h"
#include "coordinator/launch/launch_options.h"
#include "coordinator/shell/managed_region.h"
#include "transport/config/options.h"

namespace shoal::gateway {

struct CoordinatorOptions {
  std::string model;          // A .gguf file or a safetensors folder; read for its text side only.
  std::string chat_template;  // A file; empty: the model's own.
  std::string bind = "127.0.0.1";
  std::string rpc_bind;     // Of the RPC port; empty: `bind`. No flag: `shoal run` sets it.
  int32_t port = 8000;      // 0: any free one.
  int32_t rpc_port = 7400;  // 0: any free one.
  std::string api_keys_file;
  bool strict_params = false;
  std::string tool_format;        // Of text::ToolFormatNames(); empty: by the chat template.
  std::string reasoning_markers;  // As TextSettings; empty: by the chat template.
  std::string group_token_file;
  std::string canary_digests;  // "ID=DIGEST,...".
  std::string state_dir;       // Empty: nothing outlives the process.
  std::string tenants_file;    // Empty: everybody is the default tenant.
  std::string breaker_rules;   // A file; empty: no breaker, and the default rules for outliers.
  std::string ladder;          // A file; empty: nothing is degraded.
  std::string protections = "all";

  // Whether there is any file that can be read again.
  bool has_policies() const {
    return !tenants_file.empty() || !breaker_rules.empty() || !ladder.empty();
  }

  launch::LaunchOptions launch;
  // But for model_name, which is the model's own, canary_digests, which are those above, and what
  // follows from the others: boot, managed_groups.
  core::RegionOptions region;
};

// Rows for what clients see of it: HTTP port, served name, keys, strictness.
void AddServingOptions(config::OptionTable& table, CoordinatorOptions& options);

// Rows for how groups are watched and streams outlive them.
void AddContinuityOptions(config::OptionTable& table, CoordinatorOptions& options);

// Rows for what it does when there is more to do than can be done.
void AddOverloadOptions(config::OptionTable& table, CoordinatorOptions& options);

// Rows for all of the above but rpc_bind and `launch`, and what of the region has a flag. `options`
// must outlive the table.
void AddCoordinatorOptions(config::OptionTable& table, CoordinatorOptions& options);

// Threading: owned by the event loop.
class Coordinator {
 public:
  // Opens the model's tokenizer and listens on both ports; starts the groups that it manages, with
  // the next turn of the event loop. `io` outlives it.
  // Errors: kInvalidArgument for a bad model, key file, token file or executor, or a port in use.
  Coordinator(kj::AsyncIoContext& io, const CoordinatorOptions& options,
              ManagedRegionEvents events);
  ~Coordinator();

  uint16_t port() const;      // HTTP; the real one.
  uint16_t rpc_port() const;  // The real one.
  // "http://127.0.0.1:8000", with the address that it is bound to; what the `ready` line names.
  std::string url() const;

  // Its files of tenants, breaker rules and the ladder may have changed (PolicyFile).
  void ReadPoliciesAgain();

  // Refuses new work, ends the streams, dismisses the groups and lets answers out; resolves within
  // about `grace_ms`, and 2 s more if groups that it manages do not leave.
  kj::Promise<void> Stop(int64_t grace_ms);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace shoal::gateway
