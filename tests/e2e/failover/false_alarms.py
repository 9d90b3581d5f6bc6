#!/usr/bin/env python3
"""Serves beside processes that never wait, and counts groups that are given up: see
scripts/false_alarms.sh."""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import programs
import streams
from cluster import Cluster


def start_busy(seconds):
    if shutil.which("stress-ng"):
        command = ["stress-ng", "--cpu", "4", "--timeout", f"{seconds + 60:.0f}s", "--quiet"]
        return "stress-ng --cpu 4", [subprocess.Popen(command)]
    return "4 x yes", [subprocess.Popen(["yes"], stdout=subprocess.DEVNULL) for _ in range(4)]


def losses(cluster):
    """shoal_groups_lost_total, of all causes."""
    lines = programs.request(cluster.url, "/metrics")[1].splitlines()
    samples = [line for line in lines if line.startswith("shoal_groups_lost_total")]
    if not samples:
        raise AssertionError("/metrics has no shoal_groups_lost_total")
    return sum(int(float(sample.split()[-1])) for sample in samples)


def serve(cluster, bodies, seconds):
    """Result: how many answers ended as they should."""
    answers = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        asked = [streams.Stream(cluster.url, body) for body in bodies]
        streams.wait_for(asked)
        answers += sum(stream.error is None for stream in asked)
    return answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=1800)
    options = parser.parse_args()
    programs.PROGRAMS = pathlib.Path(options.programs).resolve()
    name = pathlib.Path(options.model).name.removesuffix(".gguf")
    bodies = streams.bodies(4, 100, 1, name, 256)
    busy = []
    with tempfile.TemporaryDirectory(prefix="shoal_alarms_") as folder:
        with Cluster(options.model, folder) as cluster:
            cluster.wait_until_ready()
            try:
                what, busy = start_busy(options.seconds)
                answers = serve(cluster, bodies, options.seconds)
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            lost = losses(cluster)
            print(f"{options.seconds:.0f} s beside {what}: {answers} answers, {lost} groups lost")
            if lost:
                print(cluster.log())
    sys.exit(1 if lost or answers == 0 else 0)


if __name__ == "__main__":
    main()
