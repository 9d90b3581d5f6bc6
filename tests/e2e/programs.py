"""Starts the programs for the tests in this folder, and leaves nothing running.

Every test is a unittest.TestCase of ProgramTest. The programs' folder is the argument --programs.
"""

import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

# Generous, since the machine may be busy; what is waited for usually takes a second, and the end
# after a signal less than the 5 s that are promised where ranks are not starved.
READY_SECONDS = 240
END_SECONDS = 240
STOP_SECONDS = 60

PROGRAMS = None


def main():
    """Runs the calling module's tests."""
    global PROGRAMS
    place = sys.argv.index("--programs")
    # The tests import this module by its name, and run as __main__.
    PROGRAMS = pathlib.Path(sys.argv[place + 1]).resolve()
    del sys.argv[place:place + 2]
    unittest.main(verbosity=2)


def program(name):
    return str(PROGRAMS / name)


def mpirun(rank_count):
    """The start of a command line that runs ranks on this machine."""
    command = ["mpirun", "--bind-to", "none", "--oversubscribe", "--mca", "oob_tcp_if_include", "lo"]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    return command + (["-np", str(rank_count)] if rank_count else [])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def session_members(session):
    """Process ids of a session that have not ended."""
    members = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It has just ended.
        if words[0] != "Z" and int(words[3]) == session:
            members.append(int(folder.name))
    return members


def descendants(ancestor):
    """Process ids below a process, whatever session they are in, with their command lines."""
    parents = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(words[1])
    found = [ancestor]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    commands = {}
    for pid in found[1:]:
        with contextlib.suppress(OSError):
            commands[pid] = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return commands


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def catches(pid, number):
    """Whether the process has a handler for that signal, or has it blocked."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    masks = [int(mask, 16) for mask in re.findall(r"^Sig(?:Cgt|Blk):\s*(\w+)$", status, re.MULTILINE)]
    return any(mask >> (number - 1) & 1 for mask in masks)


def wait_until(condition, seconds, what, every=0.02):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        select.select([], [], [], every)
    raise AssertionError(f"{what}: not within {seconds} s")


def word_after(command, flag):
    return command[command.index(flag) + 1] if flag in command else None


class Running:
    """A program that was started in a session of its own; stderr goes to a file."""

    def __init__(self, command, folder, env=None):
        self.log_path = pathlib.Path(tempfile.mkstemp(dir=folder, suffix=".log")[1])
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, text=True, start_new_session=True, env={**os.environ, **(env or {})})
        self.pid = self.process.pid
        self.seen = {}  # Descendants, so that they can be looked for after the parent has ended.
        self.url = None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self):
        """Reads the one line that stdout carries; returns the URL in it."""
        readable, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        match = re.fullmatch(r"ready (http://127\.0\.0\.\d+:\d+)\n", line)
        if not match:
            raise AssertionError(f"instead of the ready line: {line!r}\n{self.log()}")
        self.url = match[1]
        self.look()
        return self.url

    def look(self):
        self.seen.update(descendants(self.pid))
        return self.seen

    def ranks(self, group=None):
        """Process ids of the ranks, in rank order; with `group`, of that managed group."""
        ranks = {}
        for pid, command in self.look().items():
            if not command[0].endswith("shoal-worker") or not is_running(pid):
                continue
            if group is not None and str(group) != word_after(command, "--group-number"):
                continue
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            rank = next(v for v in environment if v.startswith("OMPI_COMM_WORLD_RANK="))
            ranks[int(rank.partition("=")[2])] = pid
        return [ranks[rank] for rank in sorted(ranks)]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=END_SECONDS):
        """Waits for its end; returns the exit status and what else was on stdout."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.process.args} runs on\n{self.log()}") from None
        return status, self.process.stdout.read()

    def living_descendants(self):
        return [pid for pid in self.seen if is_running(pid)]

    def end(self):
        """Whatever it does: nothing of it is left."""
        with contextlib.suppress(OSError):
            self.look()
        for pid in [self.pid, *session_members(self.pid), *self.living_descendants()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(END_SECONDS)
        self.process.stdout.close()


class ProgramTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="shoal_test_"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)

    @classmethod
    def write_model(cls, spec):
        """Returns the path of a generated model."""
        done = subprocess.run([program("shoal_write_model"), spec, str(cls.folder)], check=True,
                              capture_output=True, text=True, timeout=END_SECONDS)
        return done.stdout.strip()

    def start(self, *command, env=None):
        running = Running(command, self.folder, env)
        self.addCleanup(running.end)
        return running

    def start_run(self, model, *flags, env=None):
        running = self.start(program("shoal"), "run", model, "--port", "0", "--threads", "1", *flags,
                             env=env)
        running.wait_until_ready()
        return running

    def assert_ends(self, expected_status, expected_words, *command, env=None):
        """Runs a program to its end; returns its stderr."""
        running = self.start(*command, env=env)
        status, output = running.wait()
        log = running.log()
        self.assertEqual(status, expected_status, log)
        self.assertEqual(output, "")
        for words in expected_words:
            self.assertIn(words, log)
        return log

    def assert_stops(self, running, number=signal.SIGTERM):
        """It ends with status 0 and takes all descendants with it, in time."""
        running.look()
        begin = time.monotonic()
        running.signal(number)
        status, _ = running.wait(STOP_SECONDS)
        wait_until(lambda: not running.living_descendants(),
                   STOP_SECONDS - (time.monotonic() - begin), "the end of all descendants")
        self.assertEqual(status, 0, running.log())


def request(url, path, body=None, timeout=END_SECONDS):
    """Returns status and decoded body (JSON if it is)."""
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(message, timeout=timeout) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def complete(url, prompt, **parameters):
    """Returns the ids of a completion of an array of ids."""
    model = request(url, "/v1/models")[1]["data"][0]["id"]
    status, answer = request(url, "/v1/completions", {
        "model": model, "prompt": prompt, "return_token_ids": True, **parameters})
    if status != 200:
        raise AssertionError(f"{status}: {answer}")
    return answer["choices"][0]["token_ids"]


def metrics(url, labels=False):
    """The samples without labels; with `labels`, all of them, with theirs in the name."""
    lines = request(url, "/metrics")[1].splitlines()
    samples = (line.rsplit(None, 1) for line in lines
               if line.startswith("shoal_") and (labels or "{" not in line))
    return {name: float(value) for name, value in samples}


def groups(url):
    """What GET /v1/cluster says of each group, by its number."""
    return {group["group"]: group for group in request(url, "/v1/cluster")[1]["groups"]}
