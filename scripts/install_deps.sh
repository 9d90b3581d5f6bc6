#!/bin/bash
# Installs, from Debian 12's packages, what building, running and testing shoal needs. Needs root (or
# sudo) and the network, unless everything is there already; then it does nothing, at once.
# Takes about two minutes on a bare system. Leaves the packages installed, nothing else.
#
# Usage: scripts/install_deps.sh
set -euo pipefail

packages=(
  # The build.
  cmake ninja-build g++ pkg-config git ccache
  capnproto libcapnp-dev libgoogle-glog-dev libopenmpi-dev libboost-dev nlohmann-json3-dev
  libyaml-cpp-dev libcli11-dev libssl-dev libpcre2-dev libutf8proc-dev libxxhash-dev
  # Running: mpirun, and what fetches the model and talks to the server.
  openmpi-bin ca-certificates curl python3 python3-pip
  # The tests.
  libgtest-dev libgmock-dev python3-venv clang-format binutils procps
)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --showformat='${db:Status-Status}' --show "$package" 2>/dev/null || true)
  [[ $state == *installed* && $state != *not-installed* ]] || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
  exit 0
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || {
    echo "install_deps.sh: needs root to install: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "install_deps.sh: installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! {
  "${as_root[@]}" apt-get update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install --yes --no-install-recommends "${missing[@]}"
} >"$log" 2>&1 </dev/null; then
  tail -n 30 "$log" >&2
  echo "install_deps.sh: apt-get failed; its last lines are above" >&2
  exit 1
fi
