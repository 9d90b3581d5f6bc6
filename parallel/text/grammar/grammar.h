#pragma once

// Compiles what a request asks an answer to match (a JSON schema, a regular expression, choices) to
// an expression.

#include <memory>

#include "parallel/text/grammar/regular/byte_set.h"
#include "parallel/text/grammar/regular/expression.h"
#include "transport/base/generation/grammar_source.h"

namespace shoal::text::grammar {

// A pure function of both arguments: the coordinator compiles to refuse what is bad, the ranks
// compile the same text again.
// Result: a finished expression. `expressible`: GrammarVocabulary::single_bytes.
// Errors: kInvalidArgument: not JSON, an unsupported keyword, a regular expression beyond what is
// understood, too large, or without a finite match, each with its place.
// Cost: bounded by kGrammarBytesMax, kNodesMax and MachineBudget; mostly below a millisecond, at
// most some tenth of a second.
std::shared_ptr<const Expression> CompileGrammar(const GrammarSource& source,
                                                 const ByteSet& expressible);

}  // namespace shoal::text::grammar
