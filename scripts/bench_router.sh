#!/bin/bash
# Measures what it costs to decide which group takes a request and to pass it on: one decision of each
# routing policy (8 and 64 groups with 1,000 streams), an admission through the deciding code and
# through the HTTP door, and what the coordinator adds to a one-token request at 1,000 requests a second
# (open loop; latencies count from when a request was due), in turns with HAProxy. HAProxy passes bytes
# on to an HTTP server; the coordinator reads JSON, checks, predicts, routes and speaks the ranks'
# protocol: both are measured before something that answers at once, and HAProxy also before the
# coordinator itself with groups of a tiny model. Without HAProxy (apt-get install -y haproxy) the rest
# is measured. Prints a table and the targets beside what was reached. Clients, routers and groups share
# this machine's cores: read the ratios. Four minutes, --quick half a minute. Leaves build/release.
# Status 0: it ran, whatever the figures; 1: it did not.
#
# Usage: scripts/bench_router.sh [--quick] [--json FILE] [--rate R] [--seconds S] [--pairs N]
#     [--streams N] [--count N] [--seed N]
#   `build/release/bin/shoal bench router --help` says what each figure and each field of the JSON means.
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
    --json | --rate | --seconds | --pairs | --streams | --count | --seed)
      arguments+=("$1" "${2:?$1 needs a value}")
      ;;
    --help | -h)
      sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "bench_router.sh: unknown argument $1: see --help" >&2
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
"$root/build/release/bin/shoal" bench router "$model" "${arguments[@]}"
