# Writes OUTPUT, a header with the commit that SOURCE is at, on every build but only if it changed,
# so that nothing is compiled again for nothing. Without git, or outside a repository: "unknown".
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12
  OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT revision)
  set(revision unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
"#pragma once\n\nnamespace shoal::cli {\n\nconstexpr const char* kGitRevision = \"${revision}\";\n\n}  // namespace shoal::cli\n")
