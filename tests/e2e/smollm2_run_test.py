#!/usr/bin/env python3
"""The real model through `shoal run`: two ranks answer a question as one does."""

import json
import os
import pathlib
import re
import signal
import subprocess
import unittest

import programs
from programs import ProgramTest, complete, program, request

MODEL = pathlib.Path(__file__).resolve().parents[2] / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@unittest.skipUnless(MODEL.exists(), f"no models/{MODEL.name}; run scripts/get_model.sh")
class SmolLM2(ProgramTest):
    def test_answers_alike_on_one_rank_and_on_two(self):
        answers = []
        for ranks in ("1", "2"):
            running = self.start_run(MODEL, "--tensor-parallel", ranks)
            status, answer = request(running.url, "/v1/chat/completions", {
                "model": "SmolLM2-135M-Instruct.Q4_1", "temperature": 0, "max_tokens": 24,
                "messages": [{"role": "user", "content": "What is two plus two?"}]})
            self.assertEqual(status, 200, answer)
            answers.append((answer["choices"][0]["message"]["content"], answer["usage"],
                            answer["system_fingerprint"]))
            self.assert_stops(running)
        self.assertTrue(answers[0][0].strip())
        self.assertEqual(answers[0], answers[1])

    def test_answers_alike_before_a_rank_was_killed_and_after(self):
        running = self.start_run(MODEL, "--tensor-parallel", "2")

        def ask():
            status, answer = request(running.url, "/v1/completions", {
                "model": "SmolLM2-135M-Instruct.Q4_1", "prompt": "Two plus two is", "seed": 4,
                "max_tokens": 16})
            self.assertEqual(status, 200, answer)
            return answer["choices"][0]["text"]

        expected = ask()
        before = programs.groups(running.url)[0]
        os.kill(running.ranks()[1], signal.SIGKILL)
        programs.wait_until(lambda: (now := programs.groups(running.url)[0])["state"] == "ready" and
                            now["epoch"] > before["epoch"], programs.READY_SECONDS, "the group again")
        self.assertEqual(ask(), expected)
        self.assert_stops(running)

    def test_holds_little_more_than_shard_and_cache_and_not_the_file(self):
        plan = json.loads(subprocess.run(
            [program("shoal"), "plan", MODEL, "--tensor-parallel", "2", "--json"], check=True,
            capture_output=True, text=True, timeout=programs.END_SECONDS).stdout)
        running = self.start_run(MODEL, "--tensor-parallel", "2")
        tokens = 300
        complete(running.url, list(range(1000, 1000 + tokens)), max_tokens=1)
        for shard, pid in zip(plan["ranks"], running.ranks()):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10
            cache = shard["kv_bytes_per_token"] * (tokens + 32)
            self.assertLess(resident, 1.15 * shard["weight_bytes"] + cache + (64 << 20))
            self.assertLess(mapped_bytes(pid, MODEL), MODEL.stat().st_size / 8)


def mapped_bytes(pid, path):
    """Resident bytes of a process's mapping of a file."""
    maps = pathlib.Path(f"/proc/{pid}/smaps").read_text()
    sizes = re.findall(rf"{re.escape(str(path.resolve()))}\n(?:.*\n)*?Rss:\s+(\d+) kB", maps)
    assert sizes, f"{path} is not mapped"
    return sum(map(int, sizes)) << 10


if __name__ == "__main__":
    programs.main()
