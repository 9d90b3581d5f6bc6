#!/usr/bin/env python3
"""Runs a test for as long as it works, however busy the machine is, and ends one that hangs.

Usage: watch_test.py COMMAND [ARGUMENT]...

What counts is the processor time of the test and of all processes below it, not the time on the
wall: a machine with other work to do makes a test slow, and a limit in seconds would then call it
hung. A test hangs if in QUIET_SECONDS it used less than WORK_SECONDS of processor time (heartbeats
and polling use some), or if it used up BUDGET_SECONDS in all. Then its processes are listed and
killed, and the exit status is 124. Otherwise the exit status is the test's own, and what it left
running is killed.
"""
import contextlib
import ctypes
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

QUIET_SECONDS = float(os.environ.get("SHOAL_TEST_QUIET_SECONDS", 300))
WORK_SECONDS = float(os.environ.get("SHOAL_TEST_WORK_SECONDS", 1))
BUDGET_SECONDS = float(os.environ.get("SHOAL_TEST_BUDGET_SECONDS", 3600))
LOOK_SECONDS = 0.5
HUNG = 124

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PRCTL = ctypes.CDLL(None, use_errno=True).prctl
TICKS = os.sysconf("SC_CLK_TCK")


def processes_below(ancestor):
    """Process id to (processor seconds, with those of children it has waited for; command)."""
    found, parents = {}, {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            head, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue  # It has just ended.
        words = rest.split()
        parents[int(folder.name)] = int(words[1])
        seconds = sum(int(word) for word in words[11:15]) / TICKS
        found[int(folder.name)] = (seconds, head.partition("(")[2], words[0])
    below = [ancestor]
    for pid in below:
        below.extend(child for child, parent in parents.items() if parent == pid)
    return {pid: found[pid] for pid in below[1:]}


def kill_all():
    """Kills everything below this process, also what was started meanwhile."""
    while processes := processes_below(os.getpid()):
        for pid in processes:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


class Worked:
    """The processor time of all processes below this one, those that have ended included."""

    def __init__(self):
        self.seconds = 0.0
        self.last = {}

    def look(self):
        now = processes_below(os.getpid())
        for pid, (seconds, _, _) in now.items():
            # A child's time moves to its parent when it is waited for: never less than nothing.
            self.seconds += max(0.0, seconds - self.last.get(pid, 0.0))
        self.last = {pid: seconds for pid, (seconds, _, _) in now.items()}
        return self.seconds


def describe(processes):
    return "\n".join(f"  {pid} ({name}, {state}): {seconds:.2f} s"
                     for pid, (seconds, name, state) in sorted(processes.items()))


class Children:
    """Takes in children as they end, also those that their own parents left behind."""

    def __init__(self, command):
        self.command = command
        self.status = None  # Of the command, once it has ended.
        woken, waker = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(waker, False)
        self.woken = woken
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def wait(self, seconds):
        """Returns when a child has ended, or after so long; says whether the command has."""
        self.take()
        if self.status is None and select.select([self.woken], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self.woken, 4096)
            self.take()
        return self.status is not None

    def take(self):
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.command:
                    self.status = os.waitstatus_to_exitcode(status)


def hang_reason(children):
    """Waits for the test's end: an empty string, or why it must be ended."""
    worked = Worked()
    since, seconds_then, looked = time.monotonic(), 0.0, 0.0
    while not children.wait(LOOK_SECONDS):
        now = time.monotonic()
        if now - looked < LOOK_SECONDS:
            continue
        looked, seconds = now, worked.look()
        if seconds - seconds_then >= WORK_SECONDS:
            since, seconds_then = now, seconds
        elif now - since >= QUIET_SECONDS:
            return f"it used less than {WORK_SECONDS:g} s of processor time in {QUIET_SECONDS:g} s"
        if seconds >= BUDGET_SECONDS:
            return f"it used {seconds:.0f} s of processor time"
    return ""


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    PRCTL(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Not waited for by its own object, but with all others.
    command = subprocess.Popen(sys.argv[1:],
                               preexec_fn=lambda: PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    children = Children(command.pid)
    try:
        reason = hang_reason(children)
        if reason:
            print(f"{sys.argv[1]} hangs: {reason}. Below it are\n"
                  f"{describe(processes_below(os.getpid()))}", file=sys.stderr, flush=True)
            return HUNG
        return children.status if children.status >= 0 else 128 - children.status
    finally:
        kill_all()
        command.returncode = 0  # It is gone; its object need not look for it.


if __name__ == "__main__":
    sys.exit(main())
