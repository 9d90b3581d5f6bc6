#pragma once

// For headers that are compiled with an instruction set's flags. Everything in such a header has
// internal linkage and calls no function that has not: a copy with these instructions that the
// linker took for baseline code would crash older machines (isa_objects_test.sh looks for them).

#define SHOAL_INLINE inline __attribute__((always_inline))
