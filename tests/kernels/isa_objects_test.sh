#!/usr/bin/env bash
# Usage: isa_objects_test.sh LIBRARY
#
# Reads the symbols of the objects in LIBRARY that are named for an instruction set (avx2, avx512, amx).
# Fails if one of them defines anything that the linker could take in place of another object's
# definition: an inline function or template that came in with a header would carry the instructions
# of that object into code that must run on any x86-64. Takes a second; leaves nothing behind.
set -euo pipefail

library=${1:?usage: isa_objects_test.sh LIBRARY}
checked=0
while read -r object; do
  checked=$((checked + 1))
  # Weak (W, V), unique (u), or global without the instruction set in its name.
  merged=$(nm --demangle --defined-only "$library" 2>/dev/null |
    awk -v object="$object:" '
      $0 == object { inside = 1; next }
      /:$/ { inside = 0 }
      inside && $2 ~ /^[WVu]$/ { print }
      inside && $2 ~ /^[TDBR]$/ && $0 !~ /Avx(2|512)|Amx/ { print }')
  if [[ -n "$merged" ]]; then
    echo "$object defines symbols that baseline code could be linked to:"
    echo "$merged"
    echo "put them into an anonymous namespace, or do not include the header that brings them"
    exit 1
  fi
done < <(ar t "$library" | grep --extended-regexp '_(avx2|avx512|amx)')

if ((checked == 0)); then
  echo "$library holds no object named for an instruction set: nothing was checked"
  exit 1
fi
echo "$checked objects checked"
