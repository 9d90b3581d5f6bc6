#!/bin/bash
# Measures what is left of a server's useful work when more is asked of it than it can do: a
# coordinator and two groups of one rank with a tiny model, whose capacity is measured first, are asked
# for 1, 2 and 10 times as much by clients that come when they come (open loop; latencies count from when
# a request was due). Load shapes: steady, step (1 to 6 x), surge (1 to 5 x), eighty_twenty (80 % of the
# requests in 20 % of the time), pulse (15 x), angry (immediate retries without end) and storm (10 x for
# 30 s, then half of the capacity); prompts and answers have heavy-tailed lengths. Arms: protected,
# control (--protections none), and five with one layer off each. Prints a table, what each layer caught,
# and the targets beside what was reached; how many calls and seconds a run had is in it.
# The figures are the machine's: clients, coordinator and ranks share its cores. Quarter of an hour,
# --quick three minutes. Leaves build/release. Status 0: it ran, whatever the figures; 1: it did not.
#
# Usage: scripts/bench_overload.sh [--quick] [--json FILE] [--plot FILE.svg] [--seconds S]
#     [--storm-seconds S] [--arms NAME,...] [--shapes NAME,...] [--without LAYER,...] [--factors F,...]
#     [--seed N] [--breaker-rules FILE] [--ladder FILE]
#   --without edge_limit,admission: a storm with all layers, with none and without each of those, and
#   whether the others hold.
#   `build/release/bin/shoal bench overload --help` says what each figure and each field of the JSON means.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
arguments=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick)
      arguments+=(--quick)
      shift
      continue
      ;;
    --json | --plot | --seconds | --storm-seconds | --arms | --shapes | --without | --factors | \
      --seed | --breaker-rules | --ladder)
      arguments+=("$1" "${2:?$1 needs a value}")
      ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "bench_overload.sh: unknown argument $1: see --help" >&2
      exit 2
      ;;
  esac
  shift 2
done

cmake --preset release -S "$root" >/dev/null
cmake --build "$root/build/release" --target shoal shoal-coordinator shoal-worker shoal_write_model >&2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
model=$("$root/build/release/bin/shoal_write_model" head_dim_80 "$folder")
"$root/build/release/bin/shoal" bench overload "$model" "${arguments[@]}"
