#!/bin/bash
# Builds one preset and runs its tests: release (all tests), or the unit tests under a sanitizer.
# On two cores: release about 7 minutes to build and 6 to test, asan 13 in all, tsan longer; much
# less the second time. Leaves build/<preset>.
# Tests that need the reference data find it through SHOAL_FIXTURES, the real model in models/
# (scripts/get_model.sh); without, they skip and say so.
#
# Usage: scripts/test.sh [release|asan|tsan] [arguments of ctest]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preset=release
case ${1:-} in
  release | asan | tsan)
    preset=$1
    shift
    ;;
  --help | -h)
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

model=$root/models/SmolLM2-135M-Instruct.Q4_1.gguf
if [[ -z ${SHOAL_SMOLLM2:-} && -f $model ]]; then
  export SHOAL_SMOLLM2=$model
fi
cd "$root"
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset"
# Two at once, as many of them wait more than they work; a test that cannot bear it says so (PROCESSORS).
ctest --preset "$preset" --parallel 2 "$@" </dev/null
