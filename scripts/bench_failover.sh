#!/bin/bash
# Measures what clients notice of a fault: a coordinator and two groups of two ranks serve four
# streams, a rank or program is struck, and every stream is compared with its undisturbed twin.
# Faults: kill (SIGKILL of a rank), stop (SIGSTOP), blackhole (a router that drops everything between
# a group and the coordinator), oom (the kernel kills a rank for want of memory), wrong_sum (a planted
# bit of one rank's sum), mpirun_killed, coordinator_killed (it is started again at once; clients
# resume). Detection is from the fault to the coordinator's line that the group was lost; a stall is
# the longest gap between tokens of a stream that was disturbed. Status 1: a stream was lost or changed.
# Blackhole needs root and network namespaces, oom memory control groups (v1); without, they are left
# out, and said so. 20 minutes for each fault at most, --quick 3 minutes in all. Leaves build/release
# and the model.
#
# Usage: scripts/bench_failover.sh [--quick] [--json FILE] [--trials 100] [--faults kill,stop,...]
#     [--model FILE] [--seed 1]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
model=$root/models/SmolLM2-135M-Instruct.Q4_1.gguf
arguments=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick)
      arguments+=(--trials 6 --seconds 20 --tokens 200)
      shift
      continue
      ;;
    --json | --trials | --faults | --seed) arguments+=("$1" "${2:?$1 needs a value}") ;;
    --model) model=${2:?--model needs a file} ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "bench_failover.sh: unknown argument $1: see --help" >&2
      exit 2
      ;;
  esac
  shift 2
done

[[ -f $model ]] || "$root/scripts/get_model.sh"
cmake --preset release -S "$root" >/dev/null
cmake --build "$root/build/release" --target shoal-worker shoal-coordinator >&2
exec python3 "$root/tests/e2e/failover/bench_failover.py" --programs "$root/build/release/bin" \
  --model "$model" "${arguments[@]}"
