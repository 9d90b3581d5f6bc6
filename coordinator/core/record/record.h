#pragma once

// What a region remembers of what it decided, by the name that the rest of core knows it by.

#include "transport/base/generation/stream_error.h"
#include "transport/base/overload/record.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::core {

using shoal::Record;
using shoal::RecordFigure;
using shoal::RecordKind;
using shoal::RecordPage;
using shoal::RecordQuery;

// Of a request that was refused before any work, with the figures that it was told.
Record RejectionOf(const RequestTerms& terms, const StreamError& why);

}  // namespace shoal::core
