#!/bin/bash
# Kills ranks of forked groups thousands of times and compares every stream with its undisturbed twin:
# tests/e2e/failover/failover_kills_test.cc again and again, with a new seed for each 500 kills. What
# was done stands in a state file, one line a round, so that an interrupted soak goes on where it was.
# Prints how many streams were lost and changed, and the 95 % upper bound of their share. About two
# minutes for 1000 kills on two cores. Status 1: a stream was lost or changed. Leaves build/release.
#
# Usage: scripts/soak_failover.sh [--kills 10000] [--state build/soak_failover.state]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
kills=10000
state=build/soak_failover.state
while [[ $# -gt 0 ]]; do
  case $1 in
    --kills) kills=${2:?--kills needs a number} ;;
    --state) state=${2:?--state needs a file} ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "soak_failover.sh: unknown argument $1: see --help" >&2
      exit 2
      ;;
  esac
  shift 2
done
[[ $kills =~ ^[1-9][0-9]*$ ]] || {
  echo "soak_failover.sh: --kills: expected a number above 0, found '$kills'" >&2
  exit 2
}

cmake --preset release >/dev/null
cmake --build --preset release --target failover_kills_test >&2
touch "$state"

# Sum of one word's numbers in the state file: "failover KvF16 seed 3 kills 200 answers ...".
total() {
  awk -v word="$1" '{ for (i = 1; i < NF; i++) if ($i == word) sum += $(i + 1) } END { print sum + 0 }' \
    "$state"
}

seed=$(awk '{ for (i = 1; i < NF; i++) if ($i == "seed" && $(i + 1) > most) most = $(i + 1) }
            END { print most + 0 }' "$state")
while (($(total kills) < kills)); do
  seed=$((seed + 1))
  left=$((kills - $(total kills)))
  log=$(mktemp)
  status=0
  SHOAL_FAILOVER_SEED=$seed SHOAL_FAILOVER_KILLS=$((left < 500 ? left : 500)) \
    build/release/bin/failover_kills_test >"$log" 2>&1 </dev/null || status=$?
  grep '^failover ' "$log" >>"$state" || true
  if ((status != 0)); then
    cat "$log"
    echo "soak_failover.sh: seed $seed failed; its report is above" >&2
    if ! grep -q '^failover ' "$log"; then exit 1; fi
  fi
  rm "$log"
  echo "$(total kills) of $kills kills, $(total disturbed) answers disturbed, $(total lost) lost," \
    "$(total changed) changed"
done

python3 - "$(total kills)" "$(total answers)" "$(total disturbed)" "$(total lost)" \
  "$(total changed)" <<'PYTHON'
"""The rule of three: of n trials without a failure, the share is below 3/n with 95 % confidence."""
import math
import sys

kills, answers, disturbed, lost, changed = map(int, sys.argv[1:])


def upper(failures, trials):
    """Poisson's 95 % upper bound of a share; failures 0: about 3 / trials."""
    low, high = 0.0, failures + 20 * math.sqrt(failures + 1) + 20
    for _ in range(100):
        rate = (low + high) / 2
        within = sum(math.exp(i * math.log(rate) - rate - math.lgamma(i + 1)) for i in range(failures + 1))
        low, high = (rate, high) if within > 0.05 else (low, rate)
    return high / trials if trials else 1.0


print(f"{kills} kills, {answers} answers compared, {disturbed} of them disturbed: {lost} lost, {changed} "
      f"changed; with 95 % confidence fewer than {upper(lost + changed, disturbed):.1e} of disturbed answers")
sys.exit(1 if lost or changed else 0)
PYTHON
