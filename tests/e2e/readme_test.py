#!/usr/bin/env python3
"""The README's commands work as they stand, and what it quotes and links to is there.

Usage: readme_test.py --programs FOLDER
Runs the blocks that the README marks: `terminal` blocks stay running, `run` blocks must end with 0.
Needs the real model (scripts/get_model.sh); exits with 77 without it.
"""
import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import programs

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
DEADLINE_S = 240


def check_quotes():
    client = (ROOT / "tests/e2e/generate_client.cc").read_text()
    quotes = re.findall(r"```cpp\n(.*?)```", README, flags=re.DOTALL)
    assert quotes, "the README quotes no C++"
    for quote in quotes:
        assert quote in client, f"not in tests/e2e/generate_client.cc:\n{quote}"
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        if "://" not in link:
            assert (ROOT / link).exists(), f"the README links to {link}, which is not there"
    for script in re.findall(r"scripts/\w+\.sh", README):
        assert os.access(ROOT / script, os.X_OK), f"{script} is not there, or not executable"


def on_free_ports(command, http_port, rpc_port):
    return command.replace("8000", str(http_port)).replace("7400", str(rpc_port))


def end(process):
    """The whole session: mpirun starts processes of its own."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


def run_blocks(folder_of_programs):
    blocks = re.findall(r"<!-- readme_test: (\w+) -->\n```sh\n(.*?)```", README, re.DOTALL)
    kinds = [kind for kind, _ in blocks]
    assert kinds == ["terminal", "terminal", "run"], kinds
    ports = programs.free_port(), programs.free_port()
    terminals = []
    with tempfile.TemporaryDirectory() as folder:
        ready = pathlib.Path(folder) / "ready"
        try:
            for kind, text in blocks:
                command = on_free_ports(text, *ports).replace("build/release/bin", str(folder_of_programs))
                if kind == "terminal":
                    output = open(ready if not terminals else os.devnull, "w")
                    terminals.append(subprocess.Popen(["bash", "-c", command], cwd=ROOT,
                                                      stdout=output, stderr=subprocess.DEVNULL,
                                                      start_new_session=True))
                    continue
                deadline = time.monotonic() + DEADLINE_S
                while "ready " not in ready.read_text():
                    assert time.monotonic() < deadline, "no ready line"
                    time.sleep(0.05)
                # `shoal status` asks the default port unless told.
                command = command.replace("shoal status",
                                          f"shoal status --coordinator 127.0.0.1:{ports[1]}")
                result = subprocess.run(["bash", "-ec", command], cwd=ROOT, capture_output=True,
                                        text=True, timeout=DEADLINE_S)
                assert result.returncode == 0, result.stderr
                for expected in ('"text":" Paris.', "tensor 2 x pipeline 1): ready"):
                    assert expected in result.stdout and expected in README, result.stdout
        finally:
            for process in reversed(terminals):
                end(process)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", required=True, type=pathlib.Path)
    options = parser.parse_args()
    check_quotes()
    if not MODEL.exists():
        print(f"skipped: no {MODEL.relative_to(ROOT)}; run scripts/get_model.sh")
        return 77
    run_blocks(options.programs.resolve())
    print("the README's commands work")
    return 0


if __name__ == "__main__":
    sys.exit(main())
