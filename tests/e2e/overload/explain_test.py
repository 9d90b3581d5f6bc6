#!/usr/bin/env python3
"""What became of requests, as `shoal explain` and `shoal postmortem` tell it of a real cluster."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import programs  # noqa: E402
from by_hand_test import PROMPT, ByHand  # noqa: E402
from programs import END_SECONDS, free_port, metrics, program, wait_until  # noqa: E402

ANSWERS = 8


class Explain(ByHand):
    def shoal(self, *words, status=0):
        """Returns what the verb prints; its errors if it is to end with another status."""
        done = subprocess.run([program("shoal"), *words], capture_output=True, text=True,
                              timeout=END_SECONDS, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr if status else done.stdout

    def explain(self, rpc, name, count=1):
        """The stories of that request, one for each of its answers."""
        told = json.loads(self.shoal("explain", name, "--coordinator", rpc, "--json"))
        self.assertEqual(told["request"], name)
        self.assertEqual(len(told["stories"]), count, told)
        for story in told["stories"]:
            times = [line["at_ms"] for line in story["lines"]]
            self.assertEqual(times, sorted(times))
            for line in story["lines"]:
                for figure in line["figures"]:
                    self.assertTrue(figure["source"], line)
        return told["stories"]

    def post(self, url, name, max_tokens, **parameters):
        connection = http.client.HTTPConnection(urllib.parse.urlparse(url).netloc, timeout=END_SECONDS)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/completions", json.dumps({
            "prompt": PROMPT, "max_tokens": max_tokens, "ignore_eos": True, **parameters}),
            {"Content-Type": "application/json", "X-Request-Id": name})
        return connection.getresponse()

    def start_two_groups(self):
        """Returns the coordinator's URL, its RPC address and the groups. A request was refused."""
        model = self.write_model("very_long")
        port, rpc_port = free_port(), free_port()
        coordinator = self.start(program("shoal-coordinator"), "--model", model, "--port", port,
                                 "--rpc-port", rpc_port, "--heartbeats-missed-max", "10000")
        rpc = f"127.0.0.1:{rpc_port}"
        wait_until(lambda: "HTTP on" in coordinator.log() or coordinator.process.poll() is not None,
                   programs.READY_SECONDS, "the coordinator's ports")
        answer = self.post(f"http://127.0.0.1:{port}", "refused-1", 4)
        self.assertEqual(answer.status, 503)
        self.assertEqual(json.loads(answer.read())["error"]["code"], "no_group")
        groups = [self.start_group(model, rpc, 1) for _ in range(2)]
        url = coordinator.wait_until_ready()
        self.wait_for_groups(url, 2)
        return url, rpc, groups

    def kill_group_of(self, rpc, name, groups):
        """Kills the process of the group that has the first answer; returns the group's number."""
        lines = self.explain(rpc, name, ANSWERS)[0]["lines"]
        placed = next(line for line in lines if line["kind"] == "placed")
        number = int(placed["what"].split("group ")[1].split()[0].rstrip(":,"))
        status = json.loads(self.shoal("status", "--coordinator", rpc, "--json"))
        pid = next(group for group in status["groups"] if group["group"] == number)["ranks"][0]["pid"]
        self.assertIn(pid, [group.ranks()[0] for group in groups])
        os.kill(pid, signal.SIGKILL)
        return number

    def kill_while_it_answers(self, url, rpc, groups):
        """Both groups stand still while they are given answers, so that none is done too early."""
        ranks = [group.ranks()[0] for group in groups]
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)
        heard = []
        client = threading.Thread(target=lambda: heard.append(
            self.post(url, "killed-1", 20, stream=True, n=ANSWERS).read().decode()))
        client.start()

        def all_placed():
            records = programs.request(url, "/v1/records?request=killed-1")[1]["records"]
            return sum(record["kind"] == "placed" for record in records) == ANSWERS

        wait_until(all_placed, END_SECONDS, "the groups to be given all answers")
        number = self.kill_group_of(rpc, "killed-1", groups)
        for pid in ranks:
            with contextlib.suppress(ProcessLookupError):  # One of them is the one that was killed.
                os.kill(pid, signal.SIGCONT)
        client.join(END_SECONDS)
        self.assertIn("data: [DONE]", heard[0])
        return number

    def check_finished(self, rpc):
        [story] = self.explain(rpc, "finished-1")
        self.assertEqual([line["kind"] for line in story["lines"]],
                         ["admitted", "placed", "first_token", "finished"])
        self.assertEqual(story["outcome"], "finished")
        figures = {figure["name"]: figure["value"] for figure in story["lines"][-1]["figures"]}
        self.assertEqual((figures["prompt_tokens"], figures["generated_tokens"]), (len(PROMPT), 5))
        text = self.shoal("explain", "finished-1", "--coordinator", rpc)
        for words in ("admitted", "queued_ms", "first token", "outcome: finished"):
            self.assertIn(words, text)
        [stream] = self.explain(rpc, story["stream"])
        self.assertEqual(stream["lines"], story["lines"])

    def check_every_id(self, rpc, answer_id):
        """The id in an answer's body, as its header's, finds it."""
        self.assertTrue(answer_id.startswith("cmpl-"), answer_id)
        self.assertEqual(self.explain(rpc, answer_id), self.explain(rpc, "finished-1"))

    def check_refused(self, rpc):
        [story] = self.explain(rpc, "refused-1")
        self.assertEqual((story["outcome"], story["reason"]), ("refused", "no_group"))
        self.assertTrue(any(advice.startswith("retry after") for advice in story["advice"]), story)

    def check_killed(self, rpc, number):
        """All answers are whole; those that the group had went on with the other one."""
        stories = self.explain(rpc, "killed-1", ANSWERS)
        self.assertEqual({story["outcome"] for story in stories}, {"finished"})
        killed = [[line for line in story["lines"] if line["kind"] not in ("first_token", "preempted")]
                  for story in stories if any(line["kind"] == "parked" for line in story["lines"])]
        self.assertTrue(killed, stories)
        for lines in killed:
            self.assertEqual([line["kind"] for line in lines],
                             ["admitted", "placed", "parked", "placed", "finished"])
            self.assertIn(f"parked because group {number} was lost", lines[2]["what"])
            self.assertIn("resumed: goes on with", lines[3]["what"])

    def check_report(self, rpc, number):
        report = json.loads(self.shoal("postmortem", "--since", "1h", "--coordinator", rpc, "--json"))
        losses = [entry for entry in report["time_line"] if entry["kind"] == "group_lost"]
        self.assertEqual(len(losses), 1, report["time_line"])
        self.assertIn(f"group {number}", losses[0]["what"])
        self.assertEqual([(tally["name"], tally["value"]) for tally in report["rejected_by_reason"]],
                         [("no_group", 1)])
        self.assertEqual([cause["cause"] for cause in report["causes"]], ["network_or_process_lost"])
        self.assertTrue(report["complete"])
        text = self.shoal("postmortem", "--coordinator", rpc)
        for words in ("time line", "group_lost", "rejected by reason", "advice: "):
            self.assertIn(words, text)

    def check_bad_input(self, url, rpc):
        words = self.shoal("explain", "nobody-asked", "--coordinator", rpc, status=1)
        self.assertIn("'nobody-asked'", words)
        self.assertIn("reaches back to", words)
        words = self.shoal("postmortem", "--since", "ten", "--coordinator", rpc, status=2)
        self.assertIn("such as 500ms, 30s, 10m or 2h, found 'ten'", words)
        status, body = programs.request(url, "/v1/records?request=refused-1")
        self.assertEqual((status, body["records"][0]["reason"]), (200, "no_group"))
        status, body = programs.request(url, "/v1/records?since_ms=-1")
        self.assertEqual((status, body["error"]["param"]), (400, "since_ms"))

    def test_tells_of_a_finished_a_refused_and_a_killed_request(self):
        url, rpc, groups = self.start_two_groups()
        answer = self.post(url, "finished-1", 5)
        body = json.loads(answer.read())
        self.assertEqual(answer.status, 200, body)
        number = self.kill_while_it_answers(url, rpc, groups)
        self.check_finished(rpc)
        self.check_every_id(rpc, body["id"])
        self.check_refused(rpc)
        self.check_killed(rpc, number)
        self.check_report(rpc, number)
        self.check_bad_input(url, rpc)
        rejected = {name: value for name, value in metrics(url, labels=True).items()
                    if name.startswith("shoal_requests_rejected_total")}
        self.assertEqual(rejected['shoal_requests_rejected_total{reason="no_group"}'], 1)
        self.assertEqual(sum(rejected.values()), 1)


if __name__ == "__main__":
    programs.main()
