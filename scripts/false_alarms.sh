#!/bin/bash
# Serves while four busy processes take the cores, and looks whether a group is given up that is only
# slow: shoal_groups_lost_total must stay 0. Uses stress-ng where it is installed, otherwise `yes`.
# Status 1: a group was lost. Leaves build/release and the model.
#
# Usage: scripts/false_alarms.sh [--seconds 1800] [--model FILE]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
model=$root/models/SmolLM2-135M-Instruct.Q4_1.gguf
seconds=1800
while [[ $# -gt 0 ]]; do
  case $1 in
    --seconds) seconds=${2:?--seconds needs a number} ;;
    --model) model=${2:?--model needs a file} ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "false_alarms.sh: unknown argument $1: see --help" >&2
      exit 2
      ;;
  esac
  shift 2
done

[[ -f $model ]] || "$root/scripts/get_model.sh"
cmake --preset release -S "$root" >/dev/null
cmake --build "$root/build/release" --target shoal-worker shoal-coordinator >&2
exec python3 "$root/tests/e2e/failover/false_alarms.py" --programs "$root/build/release/bin" \
  --model "$model" --seconds "$seconds"
