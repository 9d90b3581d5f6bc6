#!/bin/bash
# What is too long for every change: all tests beside busy processes, the unit tests under
# ThreadSanitizer, the whole matrix of cuts, batches, chunks and instruction sets, 100,000 seeds of
# simulated regions, minutes of fuzzing for each target (with libFuzzer where clang is installed), the
# programs' tests again and again, 10,000 kills, half an hour beside busy processes, and the
# benchmarks. Takes some hours on two cores. Leaves build/{release,tsan,fuzz}; a finding of the
# fuzzers stays in build/fuzz.
#
# Usage: scripts/nightly.sh [--fuzz-seconds 300] [--rounds 10] [--peer 'COMMAND']
#   COMMAND: as for scripts/bench_engine.sh
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
fuzz_seconds=300
rounds=10
peer=
while [[ $# -gt 0 ]]; do
  case $1 in
    --fuzz-seconds) fuzz_seconds=${2:?--fuzz-seconds needs a number} ;;
    --rounds) rounds=${2:?--rounds needs a number} ;;
    --peer) peer=${2:?--peer needs a command} ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "nightly.sh: unknown argument $1: see --help" >&2
      exit 2
      ;;
  esac
  shift 2
done

failures=()
# Goes on after a failure, so that one night tells everything.
part() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" </dev/null || failures+=("$name")
}

fuzz() {
  local failed=0 target
  if command -v clang++ >/dev/null; then
    cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
      -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_C_COMPILER=clang -DSHOAL_LIBFUZZER=ON \
      -DSHOAL_SANITIZE=fuzzer-no-link,address,undefined >/dev/null || return 1
    for target in tests/fuzz/*_fuzz.cc; do
      target=fuzz_$(basename "$target" _fuzz.cc)
      echo "-- $target with libFuzzer"
      { cmake --build build/fuzz --target "$target" &&
        (cd build/fuzz && "bin/$target" -max_total_time="$fuzz_seconds" -print_final_stats=1); } ||
        failed=1
    done
    return "$failed"
  fi
  for target in build/release/bin/fuzz_*; do
    echo "-- $(basename "$target")"
    "$target" --seconds "$fuzz_seconds" || failed=1
  done
  return "$failed"
}

# Kills, stops, hang-ups and restarts at ever different moments.
chaos() {
  local round test
  for ((round = 1; round <= rounds; round++)); do
    for test in run_test by_hand_test; do
      echo "-- round $round: $test"
      tests/watch_test.py python3 "tests/e2e/$test.py" --programs build/release/bin || return 1
    done
  done
}

# All tests beside four processes that leave them little of two cores.
busy() {
  local pids=() status=0
  for _ in 1 2 3 4; do
    yes >/dev/null &
    pids+=($!)
  done
  scripts/test.sh release || status=$?
  kill "${pids[@]}"
  return "$status"
}

scripts/install_deps.sh
scripts/get_model.sh
part "all tests" scripts/test.sh release
part "all tests on a busy machine" busy
part "unit tests under ThreadSanitizer" scripts/test.sh tsan
part "steps of many rows under ThreadSanitizer" build/tsan/bin/exactness_test \
  --gtest_filter='*ManyRows*:LongContext*:TightCache*'
part "the whole matrix" env SHOAL_MATRIX=full build/release/bin/exactness_test
# Other seeds every night.
part "simulated regions" env SHOAL_SIM_SEEDS=100000 SHOAL_SIM_FIRST="$(($(date +%s) / 86400 * 1000000))" \
  build/release/bin/coordinator_net_sim_test --gtest_filter='NetSim.Keeps*'
part "fuzzing" fuzz
part "the programs, $rounds times" chaos
part "10,000 kills" scripts/soak_failover.sh --state "$(mktemp)"
part "30 minutes beside busy processes" scripts/false_alarms.sh
part "what clients notice of faults" scripts/bench_failover.sh --trials 30
part "benchmark" scripts/bench_engine.sh ${peer:+--peer "$peer"}

if [[ ${#failures[@]} -gt 0 ]]; then
  printf 'nightly.sh: failed: %s\n' "${failures[@]}" >&2
  exit 1
fi
echo "nightly.sh: all passed"
