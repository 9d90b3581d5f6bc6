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
KILLS = int(os.environ.get("SHOAL_FAILOVER_MPIRUN_KILLS", "20"))
STREAMS = 10
TOKENS = 700


class Kills(ProgramTest):
    def test_change_no_stream(self):
        model = self.write_model("very_long")
        draw = random.Random(SEED)
        with Cluster(model, self.folder) as cluster:
            cluster.wait_until_ready()
            bodies = streams.bodies(STREAMS, TOKENS, SEED, "very_long", 256)
            twins = self.twins(cluster, bodies)
            kills = resumes = 0
            while kills < KILLS:
                cluster.wait_until_ready(1)
                asked = [streams.Stream(cluster.url, body) for body in bodies]
                time.sleep(draw.uniform(0.05, 0.6))
                kills += self.kill(cluster, draw)
                streams.wait_for(asked)
                resumes += sum(stream.resumes for stream in asked)
                lost, changed = streams.differences(asked, twins)
                self.assertFalse(lost + changed, f"seed {SEED}, kill {kills}:\n"
                                 f"{cluster.log()[-3000:]}")
            print(f"{kills} kills, {resumes} streams resumed, seed {SEED}", file=sys.stderr)
            self.assertGreater(resumes, kills / 4, "the kills met too few streams")

    def twins(self, cluster, bodies):
        asked = [streams.Stream(cluster.url, body) for body in bodies]
        streams.wait_for(asked)
        self.assertEqual([stream.error for stream in asked], [None] * len(asked))
        return [stream.answer() for stream in asked]

    @staticmethod
    def kill(cluster, draw):
        """Mostly one rank; now and then one of each group, so that nobody is left."""
        groups = cluster.groups if draw.randrange(5) == 0 else [draw.choice(cluster.groups)]
        killed = 0
        for group in groups:
            ranks = group.ranks()
            if ranks:
                os.kill(draw.choice(ranks), signal.SIGKILL)
                killed += 1
        return killed


if __name__ == "__main__":
    programs.main()
