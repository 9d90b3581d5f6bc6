#pragma once

// Reads the file that says who may use a region, and how much of it. configs/tenants.yaml shows one
// with every key.

#include <memory>
#include <string>

#include "coordinator/core/tenants/tenant_policy.h"

namespace shoal::gateway {

// A keys_file is looked for from the file's folder on. Errors: kInvalidArgument, with the file, the
// line, the key, what was expected and what was found; never an API key itself.
std::shared_ptr<const core::TenantsPolicy> ReadTenantsFile(const std::string& path);

}  // namespace shoal::gateway
