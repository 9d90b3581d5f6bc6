#!/usr/bin/env python3
"""Policy files that change while a coordinator runs, and whom its keys and its token let do what."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import programs  # noqa: E402
from by_hand_test import ByHand  # noqa: E402
from programs import END_SECONDS, program, wait_until  # noqa: E402

TOKEN = "the-group-token"


def ask(url, path, key, body=None):
    """Returns status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(url + path, data, {
        "Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(message, timeout=END_SECONDS) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


class Reload(ByHand):
    def write(self, name, text):
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        return path

    def write_policies(self, key="first", hours="From nine to five.", rule="queue_length"):
        self.write("tenants.yaml", f"tenants:\n- {{name: one, keys: [{key}]}}\n"
                                   "- {name: two, keys: [other]}\n")
        self.write("rules.yaml", f"rules:\n- {{name: hours, words: [hours], answer: {hours}}}\n")
        self.write("ladder.yaml",
                   "rungs:\n- {kind: rules, file: rules.yaml, quality: 0.5, cost: 0}\n")
        self.write("breakers.yaml", f"rules:\n- {{metric: {rule}, operator: '>', value: 90, "
                                    "duration: 60s, action: degrade}\n")

    def start_with_policies(self):
        """No group ever joins: the ladder's rules answer."""
        self.write_policies()
        coordinator, rpc = self.start_coordinator(
            self.write_model("q4_1"), "--tenants-file", self.folder / "tenants.yaml",
            "--ladder", self.folder / "ladder.yaml",
            "--breaker-rules", self.folder / "breakers.yaml",
            "--group-token-file", self.write("token", TOKEN + "\n"))
        port = coordinator.log().split("HTTP on 127.0.0.1:")[1].split(",")[0]
        return coordinator, f"http://127.0.0.1:{port}", rpc

    def hours(self, url, key):
        """What the ladder answers; nothing if the key is not let in."""
        status, body = ask(url, "/v1/completions", key, {"prompt": "hours", "max_tokens": 99})
        if status == 401:
            return None
        self.assertEqual(status, 200, body)
        return body["choices"][0]["text"]

    def read_again(self, coordinator, *lines):
        before = len(coordinator.log())
        coordinator.signal(signal.SIGHUP)
        wait_until(lambda: all(line in coordinator.log()[before:] for line in lines), END_SECONDS,
                   f"{lines} in the log")

    def shoal(self, verb, *words, rpc, key):
        done = subprocess.run(
            [program("shoal"), verb, *words, "--coordinator", rpc, "--api-key-file",
             str(self.write("key", key + "\n"))],
            capture_output=True, text=True, timeout=END_SECONDS, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_takes_good_files_and_keeps_the_last_good_ones(self):
        coordinator, url, _ = self.start_with_policies()
        self.assertEqual(self.hours(url, "first"), "From nine to five.")
        self.write("tenants.yaml", "tenants: []\n")
        self.write("ladder.yaml", "rungs:\n- {kind: rule}\n")
        self.write("breakers.yaml", "rules:\n- {metric: mood}\n")
        self.read_again(coordinator, "tenants.yaml, line 1: tenants: expected at least one",
                        "ladder.yaml, line 2: kind: expected one of",
                        "breakers.yaml, line 2: metric: expected one of")
        self.assertEqual(self.hours(url, "first"), "From nine to five.")
        self.write_policies("second", "From ten to four.", "kv_used")
        self.read_again(coordinator, "tenants.yaml: 2 tenants, from now on",
                        "ladder.yaml: 1 rungs, from now on",
                        "breakers.yaml: 1 breakers, from now on")
        self.assertIsNone(self.hours(url, "first"))
        self.assertEqual(self.hours(url, "second"), "From ten to four.")
        self.check_records(url)
        self.assert_stops(coordinator)

    def check_records(self, url):
        """The operator sees all, a tenant its own requests."""
        def told(key):
            status, page = ask(url, "/v1/records", key)
            self.assertEqual(status, 200, page)
            return page["records"]

        kinds = [record["kind"] for record in told(TOKEN)]
        self.assertEqual((kinds.count("policy_loaded"), kinds.count("policy_refused")), (3, 3))
        own = told("second")
        self.assertEqual({record["tenant"] for record in own}, {"one"})
        self.assertNotIn("policy_refused", [record["kind"] for record in own])
        self.assertEqual(told("other"), [])

    def test_takes_a_revoked_key_from_who_is_connected_and_drains_for_operators_alone(self):
        coordinator, _, rpc = self.start_with_policies()
        for key in ("first", "other"):
            status, _, errors = self.shoal("drain", "0", rpc=rpc, key=key)
            self.assertNotEqual(status, 0)
            self.assertIn("--group-token-file", errors)
        status, _, errors = self.shoal("drain", "0", rpc=rpc, key=TOKEN)
        self.assertNotIn("--group-token-file", errors, "an operator, but there is no such group")
        self.assertEqual(self.shoal("status", rpc=rpc, key="first")[0], 0)
        self.write_policies("second")
        self.read_again(coordinator, "tenants.yaml: 2 tenants, from now on")
        self.assertEqual(self.shoal("status", rpc=rpc, key="first")[0], 3)

    def test_serves_and_stops_while_a_file_does_not_come(self):
        coordinator, url, _ = self.start_with_policies()
        path = self.folder / "tenants.yaml"
        path.unlink()
        os.mkfifo(path)
        self.read_again(coordinator, "ladder.yaml: 1 rungs, from now on")
        self.assertEqual(self.hours(url, "first"), "From nine to five.")
        self.assert_stops(coordinator)


if __name__ == "__main__":
    programs.main()
