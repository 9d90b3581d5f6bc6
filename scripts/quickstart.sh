#!/bin/bash
# From nothing to an answer: installs what is needed from Debian, builds the three programs, fetches a
# small real model, starts a coordinator and two MPI ranks that share every layer, and streams the
# answer to a question.
# Takes about 6 minutes the first time on two cores (most of it compiling), seconds after that.
# Leaves Debian's packages, build/release, and the model in models/; no process, also if interrupted.
#
# Usage: scripts/quickstart.sh [QUESTION]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
question=${1:-"Why is the sky blue?"}
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
bin=build/release/bin
cd "$root"

say() { printf '\n== %s\n' "$*"; }

say "Installing what is missing, from Debian"
scripts/install_deps.sh
say "Building (build/release)"
cmake --preset release >/dev/null
cmake --build --preset release --target shoal shoal-coordinator shoal-worker
say "Getting the model ($model)"
scripts/get_model.sh

work=$(mktemp -d)
server=
answer=
cleanup() {
  trap - EXIT INT TERM HUP
  [[ -z $answer ]] || kill "$answer" 2>/dev/null || true
  if [[ -n $server ]]; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "Starting a coordinator and 'mpirun -np 2 shoal-worker --tensor-parallel 2'"
"$bin/shoal" run "$model" --tensor-parallel 2 --port 0 >"$work/out" 2>"$work/log" </dev/null &
server=$!
until grep -q '^ready ' "$work/out"; do
  if ! kill -0 "$server" 2>/dev/null; then
    cat "$work/log" >&2
    echo "quickstart.sh: it ended before it was ready; what it said is above" >&2
    exit 1
  fi
  sleep 0.1
done
url=$(sed -n 's/^ready //p' "$work/out")
rpc=$(sed -n 's/.*workers and upstream programs on \([0-9.:]*\).*/\1/p' "$work/log" | head -n 1)
echo "ready at $url; this is what runs:"
"$bin/shoal" status --coordinator "$rpc"

say "Asking: $question"
request=$(python3 -c 'import json, sys; print(json.dumps({
    "model": sys.argv[1], "messages": [{"role": "user", "content": sys.argv[2]}],
    "temperature": 0, "max_tokens": 200, "stream": True,
    "stream_options": {"include_usage": True}}))' "$(basename "$model" .gguf)" "$question")
cat >"$work/show.py" <<'PYTHON'
"""Prints the text of server-sent events as it comes, then how fast it came."""
import json, sys, time

first = last = None
tokens = 0
for line in sys.stdin:
    if not line.startswith("data: ") or line.strip() == "data: [DONE]":
        continue
    event = json.loads(line[len("data: "):])
    if "error" in event:
        sys.exit(event["error"]["message"])
    tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    for choice in event["choices"]:
        text = choice["delta"].get("content")
        if text:
            last = time.monotonic()
            first = first or last
            print(text, end="", flush=True)
if tokens < 1 or first is None:
    sys.exit("no answer came")
if tokens > 1 and last > first:
    print(f"\n\n{tokens} tokens, {(tokens - 1) / (last - first):.1f} tokens per second")
PYTHON
curl --silent --show-error --no-buffer --fail-with-body --max-time 300 "$url/v1/chat/completions" \
  --header 'Content-Type: application/json' --data "$request" | python3 -u "$work/show.py" &
# Not in the foreground, where a signal to this script would have to wait for the answer's end.
answer=$!
wait "$answer"
answer=

cleanup
say "Everything is stopped again. What to try next"
cat <<NEXT
$bin/shoal chat $model --tensor-parallel 2      talk with it
$bin/shoal run $model --tensor-parallel 3       serve it at http://127.0.0.1:8000, cut in 3
$bin/shoal plan $model --tensor-parallel 3      see that cut
$bin/shoal verify $model --tensor-parallel 3    its digests: the same for every cut
$bin/shoal doctor                               check this machine
scripts/test.sh                                 run all tests
NEXT
