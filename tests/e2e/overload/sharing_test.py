#!/usr/bin/env python3
"""Equal requests in flight together are computed once, and every client has the whole answer."""

import os
import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import programs  # noqa: E402
from programs import ProgramTest, metrics, request, wait_until  # noqa: E402

CLIENTS = 100
BODY = {"prompt": list(range(7, 40)), "max_tokens": 24, "temperature": 0, "ignore_eos": True,
        "return_token_ids": True, "logprobs": 2}
# A rank that is stopped for a while is not lost here.
PATIENT = ["--heartbeats-missed-max", "10000", "--progress-timeout-ms", "600000"]


def ask_together(url, rank, joined):
    """The answers of all clients, whose requests come while the rank stands still."""
    answers = [None] * CLIENTS

    def ask(index):
        answers[index] = request(url, "/v1/completions", BODY)

    os.kill(rank, signal.SIGSTOP)
    try:
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        wait_until(joined, programs.END_SECONDS, "all requests")
    finally:
        os.kill(rank, signal.SIGCONT)
    for thread in threads:
        thread.join(programs.END_SECONDS)
    return answers


class Sharing(ProgramTest):
    def check(self, flags, computations):
        run = self.start_run(self.write_model("q4_1"), *PATIENT, *flags)
        alone = request(run.url, "/v1/completions", BODY)[1]
        before = metrics(run.url)
        taken = before["shoal_generations_total"] + CLIENTS
        answers = ask_together(run.url, run.ranks()[0],
                               lambda: metrics(run.url)["shoal_generations_total"] == taken)
        for status, answer in answers:
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["choices"], alone["choices"])
        after = metrics(run.url)
        # Each sequence that a group begins looks for its prefix once.
        begun = "shoal_prefix_cache_queries_total"
        self.assertEqual(after[begun] - before[begun], computations)
        shared = "shoal_requests_coalesced_total"
        self.assertEqual(after[shared] - before[shared], CLIENTS - computations)
        self.assert_stops(run)

    def test_a_hundred_equal_requests_are_one_prefill(self):
        self.check(["--canary-interval-ms", "0"], 1)

    def test_each_is_computed_where_that_is_turned_off(self):
        self.check(["--canary-interval-ms", "0", "--coalesce=false"], CLIENTS)


if __name__ == "__main__":
    programs.main()
