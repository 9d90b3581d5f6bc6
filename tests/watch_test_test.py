#!/usr/bin/env python3
"""watch_test.py ends what hangs, and nothing else."""

import os
import pathlib
import subprocess
import sys
import unittest

WATCH = pathlib.Path(__file__).resolve().with_name("watch_test.py")
SLEEP = "import time; time.sleep(600)"
WORK = "while True: pass"
# Ends with 0 once a process that its own parent has left behind is gone, and no zombie.
ORPHAN = """
import pathlib, subprocess, sys, time
parent = "import subprocess; print(subprocess.Popen(['true'], stdout=2).pid)"
orphan = int(subprocess.run([sys.executable, "-c", parent], stdout=subprocess.PIPE).stdout)
for _ in range(600):
    if not pathlib.Path(f"/proc/{orphan}").exists():
        sys.exit(0)
    time.sleep(0.1)
sys.exit(1)
"""


def watch(*command, quiet_seconds=60, work_seconds=1, budget_seconds=60):
    return subprocess.run(
        [sys.executable, str(WATCH), *command], capture_output=True, text=True, check=False,
        env={**os.environ, "SHOAL_TEST_QUIET_SECONDS": str(quiet_seconds),
             "SHOAL_TEST_WORK_SECONDS": str(work_seconds),
             "SHOAL_TEST_BUDGET_SECONDS": str(budget_seconds)})


def python(program):
    return [sys.executable, "-c", program]


class WatchTest(unittest.TestCase):
    def test_hands_on_how_a_test_ended(self):
        self.assertEqual(watch(*python("raise SystemExit(77)")).returncode, 77)
        self.assertEqual(watch(*python("print('said')")).stdout, "said\n")
        self.assertEqual(watch(*python("import os; os.kill(os.getpid(), 9)")).returncode, 137)

    def test_ends_a_test_that_does_nothing(self):
        done = watch(*python(SLEEP), quiet_seconds=1)
        self.assertEqual(done.returncode, 124)
        self.assertIn("python", done.stderr)

    def test_counts_the_work_of_processes_in_sessions_of_their_own(self):
        # The parent sleeps for longer than may pass quietly while its child works.
        work = "import time\nend = time.process_time() + 3\nwhile time.process_time() < end: pass"
        parent = (f"import subprocess, sys\n"
                  f"subprocess.run([sys.executable, '-c', {work!r}], start_new_session=True)")
        done = watch(*python(parent), quiet_seconds=1.5, work_seconds=0.02)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_ends_a_test_that_works_for_ever(self):
        done = watch(*python(WORK), budget_seconds=1)
        self.assertEqual(done.returncode, 124)
        self.assertIn("processor time", done.stderr)

    def test_takes_in_what_other_parents_left_behind(self):
        self.assertEqual(watch(*python(ORPHAN)).returncode, 0, "a zombie stays")

    def test_leaves_nothing_behind(self):
        parent = (f"import subprocess, sys\n"
                  f"print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}], stdout=2,"
                  f" start_new_session=True).pid)")
        child = int(watch(*python(parent)).stdout)
        self.assertFalse(pathlib.Path(f"/proc/{child}").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
