#pragma once

// Finds the schemas that references within a document stand for.

#include "parallel/text/grammar/schema/schema_keywords.h"

namespace shoal::text::grammar {

// "#", "#/$defs/x" and other pointers into `root`, percent-encoded or not; "#name" of an $anchor;
// and these after the document's own $id. Errors: kInvalidArgument with the reference's place.
const SchemaJson& ResolveReference(const SchemaJson& root, const SchemaAt& reference);

}  // namespace shoal::text::grammar
