"""A coordinator and groups under mpirun, started one by one; a group that ends is started anew."""

import datetime
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

import programs

PORTS_SECONDS = 60
LOG_TIME = re.compile(r"^[IWEF](\d{8}|\d{4}) (\d\d:\d\d:\d\d\.\d{6})")


def log_time(line):
    """Seconds since 1970 of a line of glog's, or None."""
    match = LOG_TIME.match(line)
    if not match:
        return None
    day = match[1] if len(match[1]) == 8 else f"{datetime.date.today().year}{match[1]}"
    return datetime.datetime.strptime(f"{day} {match[2]}", "%Y%m%d %H:%M:%S.%f").timestamp()


class Group(threading.Thread):
    """One place in the region: mpirun and its ranks, again and again until `close`."""

    def __init__(self, command, folder, number):
        super().__init__(daemon=True)
        self.command = command
        self.folder = pathlib.Path(folder)
        self.number = number
        self.env = {}  # Of the next start only.
        self.starts = 0
        self.process = None
        self.closing = False
        self.hold = threading.Event()  # Set: it may be started.
        self.hold.set()
        self.start()

    @property
    def log_path(self):
        return self.folder / f"group{self.number}.log"

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def run(self):
        while not self.closing:
            if not self.hold.wait(0.1):
                continue
            env, self.env = self.env, {}
            with open(self.log_path, "ab") as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, env={**os.environ, **env})
            self.starts += 1
            self.process.wait()
            self.end_all()

    def ranks(self):
        """Process ids of its living ranks, in rank order."""
        ranks = {}
        process = self.process
        for pid, command in (programs.descendants(process.pid) if process else {}).items():
            if not command[0].endswith("shoal-worker") or not programs.is_running(pid):
                continue
            try:
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            except OSError:
                continue
            ranks.update({int(v.partition("=")[2]): pid for v in environment
                          if v.startswith("OMPI_COMM_WORLD_RANK=")})
        return [ranks[rank] for rank in sorted(ranks)]

    def mpirun(self):
        """Process id of the mpirun itself."""
        commands = programs.descendants(self.process.pid)
        return next((pid for pid, words in commands.items() if words[0] == "mpirun"), self.process.pid)

    def end_all(self):
        """Ranks that outlive their mpirun too."""
        for pid in [self.process.pid, *programs.session_members(self.process.pid), *self.ranks()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self):
        self.closing = True
        if self.process:
            self.end_all()
        self.join(30)


class Cluster:
    """`wrap(number)`: words before a group's mpirun; `address(number)`: of the coordinator for it."""

    def __init__(self, model, folder, groups=2, ranks=2, coordinator_flags=(), worker_flags=(),
                 bind="127.0.0.1", wrap=lambda number: [], address=None):
        self.folder = pathlib.Path(folder)
        self.port, self.rpc_port = programs.free_port(), programs.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.coordinator_command = [
            programs.program("shoal-coordinator"), "--model", str(model), "--port", str(self.port),
            "--rpc-port", str(self.rpc_port), "--bind", bind, "--state-dir", str(self.folder / "state"),
            *map(str, coordinator_flags)]
        self.log_path = pathlib.Path(tempfile.mkstemp(dir=folder, prefix="coordinator")[1])
        self.coordinator = None
        self.start_coordinator()
        self.groups = []
        for number in range(groups):
            place = address(number) if address else "127.0.0.1"
            command = [*wrap(number), *programs.mpirun(ranks), programs.program("shoal-worker"),
                       "--model", str(model), "--coordinator", f"{place}:{self.rpc_port}",
                       "--tensor-parallel", str(ranks), "--threads", "1", *map(str, worker_flags)]
            self.groups.append(Group(command, folder, number))

    def start_coordinator(self):
        with open(self.log_path, "ab") as log:
            self.coordinator = subprocess.Popen(self.coordinator_command, stdin=subprocess.DEVNULL,
                                                stdout=subprocess.DEVNULL, stderr=log)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def metrics(self):
        try:
            return programs.metrics(self.url)
        except OSError:
            return {}

    def wait_until_ready(self, count=None, seconds=programs.READY_SECONDS):
        count = len(self.groups) if count is None else count
        programs.wait_until(lambda: self.metrics().get("shoal_groups_ready", 0) >= count, seconds,
                            f"{count} ready groups; the coordinator said:\n{self.log()[-2000:]}")

    def lost_at(self, after):
        """When the log first told of a lost group after a moment (seconds since 1970), or None."""
        for line in self.log().splitlines():
            at = log_time(line)
            if at is not None and at >= after and " was lost" in line:
                return at
        return None

    def close(self):
        for group in self.groups:
            group.closing = True
        for group in self.groups:
            group.close()
        self.coordinator.kill()
        self.coordinator.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def now():
    """Seconds since 1970, as the log's."""
    return time.time()
