#pragma once

// Merges two schemas into one that demands what both do.

#include "parallel/text/grammar/schema/schema_keywords.h"

namespace shoal::text::grammar {

// Both have had their keywords checked and are not nullable. Errors: kInvalidArgument with the
// place of a keyword that cannot be combined.
SchemaJson MergeSchemas(const SchemaAt& a, const SchemaJson& b);

// The same without the keyword `nullable`, where it is true.
SchemaJson WithNull(const SchemaAt& schema);

}  // namespace shoal::text::grammar
