#!/usr/bin/env python3
"""Ranks under mpirun are killed while answers stream: every answer is that of an undisturbed run."""

import os
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import programs
import streams
from cluster import Cluster
from programs import ProgramTest

SEED = int(os.environ.get("SHOAL_FAILOVER_SEED", "1"))
# Of each of the two tests.
KILLS = int(os.environ.get("SHOAL_FAILOVER_MPIRUN_KILLS", "10"))
STREAMS = 10
TOKENS = 700
MODEL = "very_long"


def groups_ready(url):
    try:
        return programs.metrics(url).get("shoal_groups_ready", 0)
    except OSError:
        return 0


class Kills(ProgramTest):
    def test_by_hand(self):
        with Cluster(self.write_model(MODEL), self.folder) as cluster:
            self.run_kills(cluster.url, lambda: [group.ranks() for group in cluster.groups], cluster.log)

    def test_managed(self):
        run = self.start_run(self.write_model(MODEL), "--groups", "2", "--tensor-parallel", "2")

        def groups():
            """Ranks by the mpirun that started them."""
            found = {}
            for pid, command in programs.descendants(run.pid).items():
                if command[0].endswith("shoal-worker") and programs.is_running(pid):
                    parent = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
                    found.setdefault(parent, []).append(pid)
            return list(found.values())

        self.run_kills(run.url, groups, run.log)

    def run_kills(self, url, groups, log):
        draw = random.Random(SEED)
        self.wait_for_groups(url, 2, log)
        bodies = streams.bodies(STREAMS, TOKENS, SEED, MODEL, 256)
        begun = time.monotonic()
        twins = self.twins(url, bodies)
        seconds = time.monotonic() - begun
        kills = resumes = 0
        # Some come when all is answered: more are needed until enough have met a stream.
        while kills < KILLS or (resumes <= KILLS / 4 and kills < 4 * KILLS):
            self.wait_for_groups(url, 1, log)
            asked = [streams.Stream(url, body) for body in bodies]
            time.sleep(draw.uniform(0.1, 0.9) * seconds)
            kills += self.kill(groups(), draw)
            streams.wait_for(asked)
            resumes += sum(stream.resumes for stream in asked)
            lost, changed = streams.differences(asked, twins)
            wrong = "\n".join(lost + changed)
            self.assertFalse(wrong, f"seed {SEED}, kill {kills}:\n{log()[-3000:]}")
        print(f"{kills} kills, {resumes} streams resumed, seed {SEED}", file=sys.stderr)
        self.assertGreater(resumes, KILLS / 4, "the kills met too few streams")

    def wait_for_groups(self, url, count, log):
        programs.wait_until(lambda: groups_ready(url) >= count, programs.READY_SECONDS,
                            f"{count} ready groups; the coordinator said:\n{log()[-3000:]}")

    def twins(self, url, bodies):
        asked = [streams.Stream(url, body) for body in bodies]
        streams.wait_for(asked)
        self.assertEqual([stream.error for stream in asked], [None] * len(asked))
        return [stream.answer() for stream in asked]

    @staticmethod
    def kill(groups, draw):
        """Mostly one rank; now and then one of each group, so that nobody is left."""
        groups = [ranks for ranks in groups if ranks]
        if draw.randrange(5) != 0 and groups:
            groups = [draw.choice(groups)]
        for ranks in groups:
            os.kill(draw.choice(ranks), signal.SIGKILL)
        return len(groups)


if __name__ == "__main__":
    programs.main()
