#!/usr/bin/env python3
"""Plants faults in a serving cluster and measures what clients notice: see scripts/bench_failover.sh."""

import argparse
import json
import math
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import programs
import streams
from blackhole import Blackhole
from cluster import Cluster, log_time

FAULTS = ("kill", "stop", "blackhole", "oom", "wrong_sum", "mpirun_killed", "coordinator_killed")
STALL_TARGET_MS = {"kill": 1000, "stop": 1500, "blackhole": 2000}
STREAMS = 4
BOOTSTRAPS = 2000


def quantile(values, q):
    """The smallest value that at least a share q of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def figures(values):
    if not values:
        return None
    return {"p50": round(quantile(values, 0.5), 1), "p99": round(quantile(values, 0.99), 1),
            "max": round(max(values), 1)}


def bounds(trials, q, draw):
    """95 % bounds of a quantile of all trials' values, by drawing trials with replacement."""
    trials = [values for values in trials if values]
    if not trials:
        return None
    found = []
    for _ in range(BOOTSTRAPS):
        sample = [value for values in draw.choices(trials, k=len(trials)) for value in values]
        found.append(quantile(sample, q))
    return [round(quantile(found, 0.025), 1), round(quantile(found, 0.975), 1)]


class MemoryLimit:
    """Control groups so small that the kernel kills a rank that is put into one, one for each strike."""

    def __init__(self):
        self.folder = pathlib.Path(f"/sys/fs/cgroup/memory/shoal_bench_{os.getpid()}")
        self.strikes = 0

    def open(self):
        self.folder.mkdir()

    def strike(self, pid):
        """Result: when it was killed, since 1970 and by the steady clock."""
        self.strikes += 1
        group = self.folder / str(self.strikes)
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("65536")
        (group / "cgroup.procs").write_text(str(pid))
        # A rank that has all it needs asks the kernel for nothing. So its neighbour does, and the
        # kernel takes the one that has most, which is the rank; then, having nobody else, it.
        hungry = subprocess.Popen(["sh", "-c", 'echo $$ > "$0" && exec tail /dev/zero',
                                   str(group / "cgroup.procs")], stderr=subprocess.DEVNULL)
        try:
            programs.wait_until(lambda: self.kills(group) > 0, 30, "the kernel to kill a rank for memory",
                                every=0.001)
            at = time.time(), time.monotonic()
        finally:
            hungry.kill()
            hungry.wait()
        return at

    def kills(self, group):
        words = (group / "memory.oom_control").read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def close(self):
        for folder in [*self.folder.glob("*/"), self.folder]:
            try:
                folder.rmdir()
            except OSError:
                pass


class Bench:
    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.draw = random.Random(options.seed)
        self.blackhole = self.memory = None
        self.notes = {}
        self.twins = None
        vocabulary = 256
        name = pathlib.Path(options.model).name.removesuffix(".gguf")
        self.bodies = streams.bodies(STREAMS, options.tokens, options.seed, name, vocabulary)

    def start(self, fault):
        """A cluster fit for that fault; None, with a note, if this machine cannot have it."""
        if fault == "blackhole":
            try:
                self.blackhole = Blackhole()
                self.blackhole.open()
            except (OSError, subprocess.CalledProcessError) as error:
                self.notes[fault] = f"not measured: no network namespaces here ({error})"
                self.blackhole.close()
                return None
        if fault == "oom":
            try:
                self.memory = MemoryLimit()
                self.memory.open()
            except OSError as error:
                self.notes[fault] = f"not measured: no memory control groups here ({error})"
                return None
        hole = self.blackhole if fault == "blackhole" else None
        return Cluster(self.options.model, self.folder, ranks=2,
                       bind="0.0.0.0" if hole else "127.0.0.1",
                       wrap=lambda number: hole.wrap() if hole and number == 1 else [],
                       address=lambda number: hole.host_address if hole and number == 1 else "127.0.0.1")

    def ask(self, cluster, resumable=False):
        return [streams.Stream(cluster.url, body, resumable) for body in self.bodies]

    def measure(self, fault):
        trials = []
        cluster = self.start(fault)
        if cluster is None:
            return trials
        try:
            with cluster:
                cluster.wait_until_ready()
                begin = time.monotonic()
                twins = self.ask(cluster)
                streams.wait_for(twins)
                length = time.monotonic() - begin
                if self.twins is None:
                    self.twins = [stream.answer() for stream in twins]
                deadline = time.monotonic() + self.options.seconds
                while len(trials) < self.options.trials and time.monotonic() < deadline:
                    trial = self.trial(cluster, fault, length)
                    if trial is None:
                        continue
                    trials.append(trial)
                    print(f"{fault} {len(trials)}: {trial}", file=sys.stderr, flush=True)
        finally:
            for guest in (self.blackhole, self.memory):
                if guest:
                    guest.close()
            self.blackhole = self.memory = None
        return trials

    def trial(self, cluster, fault, length):
        """Result: its figures; None if the planted fault was not reached, and all went well."""
        cluster.wait_until_ready()
        planted = self.plant(cluster, fault) if fault == "wrong_sum" else None
        asked = self.ask(cluster, resumable=fault == "coordinator_killed")
        if planted:
            wall, steady = self.await_planted(cluster, planted, asked)
        else:
            time.sleep(length * self.draw.uniform(0.15, 0.5))
            wall, steady = self.inject(cluster, fault)
        streams.wait_for(asked)
        lost, changed = streams.differences(asked, self.twins)
        for text in lost + changed:
            print(f"{fault}: {text}", file=sys.stderr)
        # A little earlier: the moment of a kill by the kernel is seen a moment later.
        detected = cluster.lost_at(wall - 0.1) if wall else None
        disturbed = [s for s in asked if s.resumes or s.reconnects or s.recomputing]
        self.mend(cluster, fault)
        if wall is None and not lost and not changed:
            return None
        return {"lost": len(lost), "changed": len(changed),
                "detection_ms": [round(max(0.0, detected - wall) * 1e3, 1)] if detected else [],
                "stall_ms": [round(s.longest_gap(steady), 1) for s in disturbed] if wall else []}

    def inject(self, cluster, fault):
        """Result: the moment, since 1970 and by the steady clock."""
        group = cluster.groups[1] if fault == "blackhole" else self.draw.choice(cluster.groups)
        rank = self.draw.choice(group.ranks())
        at = time.time(), time.monotonic()
        if fault == "kill":
            os.kill(rank, signal.SIGKILL)
        elif fault == "stop":
            os.kill(rank, signal.SIGSTOP)
            self.stopped = group
        elif fault == "blackhole":
            self.blackhole.cut(True)
        elif fault == "mpirun_killed":
            os.kill(group.mpirun(), signal.SIGKILL)
        elif fault == "coordinator_killed":
            cluster.coordinator.kill()
            cluster.coordinator.wait()
            cluster.start_coordinator()
        elif fault == "oom":
            at = self.memory.strike(rank)
        return at

    def plant(self, cluster, fault):
        """Has one group started anew that will compute a wrong sum at some later step."""
        group = self.draw.choice(cluster.groups)
        starts = group.starts
        group.env = {"SHOAL_PLANT_FAULT": f"wrong-sum:rank=1,step={self.draw.randrange(40, 140)}"}
        group.end_all()
        programs.wait_until(lambda: group.starts > starts, 30, "a group with a fault")
        programs.wait_until(lambda: cluster.metrics().get("shoal_groups_ready", 2) < 2, 30, "its loss")
        cluster.wait_until_ready()
        return group, len(group.log())

    def await_planted(self, cluster, planted, asked):
        """When the group's log tells of the planted fault. Nothing if it was never reached."""
        group, begin = planted
        while any(stream.is_alive() for stream in asked):
            told = [line for line in group.log()[begin:].splitlines() if "SHOAL_PLANT_FAULT strikes" in line]
            if told:
                wall = next((t for t in map(log_time, told) if t), time.time())
                return wall, time.monotonic() - (time.time() - wall)
            time.sleep(0.005)
        return None, None

    def mend(self, cluster, fault):
        if fault == "stop":
            self.stopped.end_all()
        if fault == "blackhole":
            cluster.groups[1].end_all()
            self.blackhole.cut(False)
        time.sleep(0.3)
        cluster.wait_until_ready()


def summary(fault, trials, draw):
    """The object of the JSON, and 95 % bounds of both p99."""
    detection = [trial["detection_ms"] for trial in trials]
    stall = [trial["stall_ms"] for trial in trials]
    flat = lambda lists: [value for values in lists for value in values]
    return {"fault": fault, "n": len(trials), "lost": sum(t["lost"] for t in trials),
            "changed": sum(t["changed"] for t in trials), "detection_ms": figures(flat(detection)),
            "stall_ms": figures(flat(stall))}, bounds(detection, 0.99, draw), bounds(stall, 0.99, draw)


def print_table(results, notes):
    def show(value):
        return "" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)

    def triple(numbers, bounds_of_p99):
        if not numbers:
            return ["", "", ""]
        return [show(numbers["p50"]), show(numbers["p99"]) + bounds_of_p99, show(numbers["max"])]

    rows = [["fault", "n", "lost", "changed", "detection p50", "p99", "max", "stall p50", "p99", "max",
             "target"]]

    def within(pair):
        return f" ({pair[0]:.0f} to {pair[1]:.0f})" if pair else ""

    for result, detection, stall in results:
        rows.append([result["fault"], *map(show, (result["n"], result["lost"], result["changed"])),
                     *triple(result["detection_ms"], within(detection)),
                     *triple(result["stall_ms"], within(stall)),
                     show(STALL_TARGET_MS.get(result["fault"]))])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print("milliseconds, in brackets 95 % bounds; lost and changed are streams, of which each trial has",
          STREAMS)
    for fault, note in notes.items():
        print(f"{fault}: {note}")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1200, help="of each fault")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--json")
    parser.add_argument("--programs", required=True)
    options = parser.parse_args()
    unknown = [fault for fault in options.faults.split(",") if fault not in FAULTS]
    if unknown:
        parser.error(f"--faults: expected some of {', '.join(FAULTS)}, found {', '.join(unknown)}")
    return options


def main():
    options = parse()
    programs.PROGRAMS = pathlib.Path(options.programs).resolve()
    folder = tempfile.mkdtemp(prefix="shoal_failover_")
    try:
        bench = Bench(options, folder)
        results = [summary(fault, bench.measure(fault), bench.draw)
                   for fault in options.faults.split(",")]
    finally:
        if not os.environ.get("SHOAL_KEEP_LOGS"):
            shutil.rmtree(folder, ignore_errors=True)
    print_table(results, bench.notes)
    if options.json:
        text = json.dumps([result for result, _, _ in results], indent=1)
        pathlib.Path(options.json).write_text(text + "\n")
    sys.exit(1 if any(result["lost"] or result["changed"] for result, _, _ in results) else 0)


if __name__ == "__main__":
    main()
