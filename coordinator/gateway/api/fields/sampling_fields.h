#pragma once

// The sampling parameters as fields of a body. All are read and published by the list of
// transport/base/generation/fields.h; here is only what the API takes in a form of its own.

#include <span>

#include "coordinator/gateway/api/fields/parameters.h"
#include "coordinator/gateway/json/json_reader.h"
#include "transport/base/generation/generation.h"

namespace shoal::gateway {

// Those of the fields that are there. Errors: ApiError naming the field, its range, and what it is.
// Without min_tokens, which depends on max_tokens, and `choice`, which "n" stands for.
void ReadSampling(JsonReader& fields, SamplingParams& sampling);

// Their rows of the table, in the list's order.
std::span<const Parameter> SamplingParameters();

}  // namespace shoal::gateway
