#!/usr/bin/env python3
"""A coordinator and groups of workers that are started one by one, as the README shows."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import urllib.parse

import programs
from programs import (END_SECONDS, ProgramTest, complete, free_port, metrics, mpirun, program,
                      wait_until)

PROMPT = list(range(7, 40))
# Together they take far longer than a test watches them, even on a busy machine.
LONG_ANSWERS = {"max_tokens": 8000, "n": 32}


class ByHand(ProgramTest):
    def start_coordinator(self, model, *flags):
        """Returns it and its RPC address; it is ready once a group has joined."""
        rpc = free_port()
        coordinator = self.start(program("shoal-coordinator"), "--model", model, "--port", "0",
                                 "--rpc-port", rpc, *flags)
        wait_until(lambda: "HTTP on" in coordinator.log() or coordinator.process.poll() is not None,
                   programs.READY_SECONDS, "the coordinator's ports")
        return coordinator, f"127.0.0.1:{rpc}"

    def start_group(self, model, rpc, tensor_parallel, *flags, join_timeout_ms=20000):
        return self.start(*mpirun(tensor_parallel), program("shoal-worker"), "--model", model,
                          "--coordinator", rpc, "--tensor-parallel", tensor_parallel, "--threads",
                          "1", "--join-timeout-ms", join_timeout_ms, *flags)

    def wait_for_groups(self, url, count):
        return wait_until(lambda: metrics(url)["shoal_groups_ready"] == count,
                          programs.READY_SECONDS, f"{count} ready groups")

    def open_stream(self, url, max_tokens, n=1):
        """A streamed completion whose first event has come."""
        connection = http.client.HTTPConnection(urllib.parse.urlparse(url).netloc, timeout=END_SECONDS)
        self.addCleanup(connection.close)
        model = programs.request(url, "/v1/models")[1]["data"][0]["id"]
        connection.request("POST", "/v1/completions", json.dumps({
            "model": model, "prompt": PROMPT, "max_tokens": max_tokens, "stream": True, "n": n,
            "ignore_eos": True}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.readline())
        return connection, answer


class Pieces(ByHand):
    def test_make_a_cluster_that_answers_and_ends(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model)
        group = self.start_group(model, rpc, 2)
        url = coordinator.wait_until_ready()
        self.assertEqual(len(complete(url, PROMPT, max_tokens=8, ignore_eos=True)), 8)
        status = subprocess.run([program("shoal"), "status", "--coordinator", rpc],
                                capture_output=True, text=True, timeout=END_SECONDS, check=True).stdout
        for words in ("epoch ", "tensor 2 x pipeline 1", "rank 0", "rank 1", "ready"):
            self.assertIn(words, status)
        group.look()
        self.assert_stops(coordinator)
        self.assertEqual(group.wait()[0], 0, group.log())

    def test_stay_away_from_a_coordinator_that_is_not_there(self):
        self.assert_ends(3, ["127.0.0.1:"], *mpirun(2), program("shoal-worker"), "--model",
                         self.write_model("q4_1"), "--coordinator", f"127.0.0.1:{free_port()}",
                         "--tensor-parallel", "2", "--join-timeout-ms", "500")

    def test_refuse_a_wrong_number_of_ranks(self):
        log = self.assert_ends(2, ["mpirun -np 6"], *mpirun(2), program("shoal-worker"), "--model",
                               self.write_model("q4_1"), "--coordinator", "127.0.0.1:1",
                               "--tensor-parallel", "3", "--pipeline-parallel", "2")
        self.assertEqual(log.count("mpirun -np 6"), 1, "said once")

    def test_refuse_a_port_in_use(self):
        model = self.write_model("q4_1")
        _, rpc = self.start_coordinator(model)
        self.assert_ends(2, [rpc.partition(":")[2]], program("shoal-coordinator"), "--model", model,
                         "--port", "0", "--rpc-port", rpc.partition(":")[2])

    def test_a_name_that_is_no_text_is_refused(self):
        self.assert_ends(2, ["--served-model-name", "expected UTF-8"], program("shoal-coordinator"),
                         "--model", self.write_model("q4_1"), "--port", "0", "--rpc-port", "0",
                         "--served-model-name", "caf\udce9")


class GroupToken(ByHand):
    def test_keeps_strangers_out(self):
        model = self.write_model("q4_1")
        secret, other = self.folder / "secret", self.folder / "other"
        secret.write_text("a secret\n")
        other.write_text("another\n")
        coordinator, rpc = self.start_coordinator(model, "--group-token-file", secret)
        stranger = self.start_group(model, rpc, 1, "--group-token-file", other, join_timeout_ms=1000)
        self.assertEqual(stranger.wait()[0], 3, stranger.log())
        self.start_group(model, rpc, 2, "--group-token-file", secret)
        url = coordinator.wait_until_ready()
        self.assertTrue(complete(url, PROMPT, max_tokens=2))


class Losses(ByHand):
    def test_a_restarted_group_rejoins_under_a_new_epoch(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model)
        group = self.start_group(model, rpc, 2)
        url = coordinator.wait_until_ready()
        before = complete(url, PROMPT, max_tokens=8, temperature=0)
        epoch = metrics(url)["shoal_group_epoch"]
        os.kill(group.ranks()[1], signal.SIGKILL)
        self.assertNotEqual(group.wait()[0], 0)
        self.wait_for_groups(url, 0)
        status, answer = programs.request(url, "/v1/completions", {
            "model": "q4_1", "prompt": PROMPT, "max_tokens": 1})
        self.assertEqual((status, answer["error"]["code"]), (503, "no_group"))
        self.start_group(model, rpc, 3)
        self.wait_for_groups(url, 1)
        self.assertGreater(metrics(url)["shoal_group_epoch"], epoch)
        self.assertEqual(complete(url, PROMPT, max_tokens=8, temperature=0), before)

    def test_a_stream_of_a_lost_group_ends_with_its_error(self):
        model = self.write_model("very_long")
        coordinator, rpc = self.start_coordinator(model, "--resume-timeout-ms", "0")
        group = self.start_group(model, rpc, 2)
        url = coordinator.wait_until_ready()
        leader = group.ranks()[0]
        _, answer = self.open_stream(url, **LONG_ANSWERS)
        os.kill(leader, signal.SIGKILL)
        events = [line[len("data: "):].strip() for line in answer.read().decode().splitlines()
                  if line.startswith("data: ")]
        self.assertEqual(events[-1], "[DONE]")
        self.assertEqual(json.loads(events[-2])["error"]["code"], "group_lost")

    def test_workers_end_with_3_when_the_coordinator_is_gone(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model)
        group = self.start_group(model, rpc, 2, join_timeout_ms=2000)
        coordinator.wait_until_ready()
        group.look()
        coordinator.signal(signal.SIGKILL)
        coordinator.wait()
        self.assertEqual(group.wait()[0], 3, group.log())
        self.assertEqual(group.living_descendants(), [])


class Managed(ByHand):
    """Groups that the coordinator starts itself."""

    def command(self, model, *flags):
        return " ".join(map(str, [*mpirun(2), program("shoal-worker"), "--model", model,
                                  "--tensor-parallel", "2", "--threads", "1", "--coordinator",
                                  "{coordinator}", "--group-number", "{group}", *flags]))

    def wait_for_state(self, url, group, state):
        return wait_until(lambda: (found := programs.groups(url).get(group)) and
                          found["state"] == state and found, programs.READY_SECONDS, state)

    def test_by_mpirun_on_this_machine_beside_one_that_is_not(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model, "--executor", "local", "--groups", "2",
                                                  "--tensor-parallel", "2", "--threads", "1")
        url = coordinator.wait_until_ready()
        self.start_group(model, rpc, 3)
        self.wait_for_groups(url, 3)
        found = programs.groups(url)
        self.assertEqual([(n, g["managed"], g["tensor_parallel"]) for n, g in sorted(found.items())],
                         [(0, True, 2), (1, True, 2), (2, False, 3)])
        # Each of the four ranks that are started here has a quarter of the machine's memory at most.
        total = int(re.search(r"MemTotal: +(\d+) kB", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024
        for rank in found[0]["ranks"] + found[1]["ranks"]:
            words = pathlib.Path(f"/proc/{rank['pid']}/cmdline").read_text().split("\0")
            share = int(words[words.index("--memory-bytes-max") + 1])
            self.assertGreater(share, 0)
            self.assertLess(share, total / 4)
        self.assert_stops(coordinator)

    def test_by_a_command(self):
        model = self.write_model("q4_1")
        token = self.folder / "group token"
        token.write_text("a secret\n")
        coordinator, _ = self.start_coordinator(
            model, "--executor", "command", "--groups", "2", "--group-token-file", token,
            "--executor-command", self.command(model, "--group-token-file", "{token-file}"))
        url = coordinator.wait_until_ready()
        self.wait_for_groups(url, 2)
        before = programs.groups(url)[1]
        os.kill(coordinator.ranks(group=1)[0], signal.SIGKILL)
        wait_until(lambda: self.wait_for_state(url, 1, "ready")["epoch"] > before["epoch"],
                   programs.READY_SECONDS, "another group 1")
        self.assertTrue(complete(url, PROMPT, max_tokens=2))
        self.assert_stops(coordinator)

    def test_are_gone_with_a_coordinator_that_is_killed(self):
        model = self.write_model("q4_1")
        coordinator, _ = self.start_coordinator(model, "--executor", "command", "--executor-command",
                                                self.command(model))
        coordinator.wait_until_ready()
        coordinator.look()
        coordinator.signal(signal.SIGKILL)
        coordinator.wait()
        wait_until(lambda: not coordinator.living_descendants(), programs.STOP_SECONDS, "the end of all")

    def test_that_fail_at_once_are_tried_again_later_and_say_why(self):
        coordinator, rpc = self.start_coordinator(
            self.write_model("q4_1"), "--executor", "command", "--executor-command",
            "sh -c 'echo there is no machine for {group} >&2; exit 7' {coordinator}")

        def status():
            done = subprocess.run([program("shoal"), "status", "--json", "--coordinator", rpc],
                                  capture_output=True, text=True, timeout=END_SECONDS, check=True)
            return json.loads(done.stdout)["groups"][0]

        failed = wait_until(lambda: (found := status())["restarts_total"] >= 3 and found,
                            END_SECONDS, "further starts")
        self.assertIn("the command exited with status 7: there is no machine for 0", failed["last_loss"])
        self.assertIn("and is started again in 1000 ms", coordinator.log())
        waiting = wait_until(lambda: (found := status())["next_start_ms"] is not None and found,
                             END_SECONDS, "a pause")
        self.assertEqual(waiting["state"], "lost")
        self.assert_stops(coordinator)

    def test_are_refused_if_nobody_could_start_them(self):
        model = self.write_model("q4_1")
        for words, flags in (
                (["{coordinator}", "--coordinator {coordinator}"],
                 ["--executor", "command", "--executor-command", "run {group}"]),
                (["--group-number {group}"],
                 ["--executor", "command", "--executor-command", "run {coordinator}"]),
                (["is empty"], ["--executor", "command"]),
                (["--group-token-file"], ["--executor", "command", "--executor-command",
                                          "run {coordinator} {group} {token-file}"]),
                (["{groop}", "{group}"], ["--executor", "command", "--executor-command",
                                          "run {coordinator} {group} {groop}"]),
                (["--groups 2", "--executor local"], ["--groups", "2"]),
                (["--relaunch off", "--executor local"], ["--relaunch", "off"]),
                (["--tensor-parallel 2", "--executor local", "shoal-worker"],
                 ["--tensor-parallel", "2"]),
                (["--kv-dtype f32", "--executor-command"],
                 ["--kv-dtype", "f32", "--executor", "command", "--executor-command",
                  "run {coordinator} {group}"]),
                (["one of none|local|command"], ["--executor", "slurm"])):
            self.assert_ends(2, words, program("shoal-coordinator"), "--model", model, "--port", "0",
                             "--rpc-port", "0", *flags)


class Descriptors(ByHand):
    """A coordinator that may open only so many files, and clients that want more."""

    LIMIT = 320

    def open_many(self, address):
        host, _, port = address.rpartition(":")
        streams = []
        for _ in range(2 * self.LIMIT):
            stream = socket.create_connection((host, int(port)), timeout=END_SECONDS)
            self.addCleanup(stream.close)
            streams.append(stream)
        return streams

    def test_running_out_of_them_ends_nothing(self):
        model = self.write_model("q4_1")
        limited = ["bash", "-c", f"ulimit -n {self.LIMIT}; exec \"$@\"", "bash"]
        rpc = free_port()
        coordinator = self.start(*limited, program("shoal-coordinator"), "--model", model, "--port",
                                 "0", "--rpc-port", rpc)
        self.start_group(model, f"127.0.0.1:{rpc}", 1)
        url = coordinator.wait_until_ready()
        for address in (urllib.parse.urlparse(url).netloc, f"127.0.0.1:{rpc}"):
            with self.subTest(address=address):
                streams = self.open_many(address)
                self.assertEqual(programs.request(url, "/livez")[0], 200, "while they are open")
                self.assertEqual(len(complete(url, PROMPT, max_tokens=2)), 2)
                for stream in streams:
                    stream.close()
                self.assertEqual(programs.request(url, "/livez")[0], 200, "afterwards")
        self.start_group(model, f"127.0.0.1:{rpc}", 1)
        self.wait_for_groups(url, 2)


class HangUps(ByHand):
    def test_free_the_sequences_and_their_blocks(self):
        model = self.write_model("very_long")
        coordinator, rpc = self.start_coordinator(model)
        self.start_group(model, rpc, 1)
        url = coordinator.wait_until_ready()
        connection, answer = self.open_stream(url, **LONG_ANSWERS)
        wait_until(lambda: metrics(url)["shoal_kv_blocks_used"] > 0, END_SECONDS, "blocks")
        answer.close()
        connection.close()
        wait_until(lambda: metrics(url)["shoal_kv_blocks_used"] == 0, END_SECONDS, "room")
        after = metrics(url)
        self.assertEqual(after["shoal_sequences_running"], 0)
        self.assertLess(after["shoal_steps_total"], LONG_ANSWERS["max_tokens"], "it did not end by itself")


class TwoGroups(ByHand):
    def test_share_the_requests(self):
        model = self.write_model("very_long")
        coordinator, rpc = self.start_coordinator(model)
        self.start_group(model, rpc, 1)
        self.start_group(model, rpc, 2)
        url = coordinator.wait_until_ready()
        self.wait_for_groups(url, 2)
        before = complete(url, PROMPT, max_tokens=8, temperature=0)
        streams = [self.open_stream(url, **LONG_ANSWERS) for _ in range(2)]

        def running():
            status = subprocess.run([program("shoal"), "status", "--coordinator", rpc],
                                    capture_output=True, text=True, timeout=END_SECONDS, check=True)
            return [int(line.split("running ")[1].split(",")[0]) for line in status.stdout.splitlines()
                    if "running " in line]

        # The first sequence goes to one group and the second to the other, and so on.
        wait_until(lambda: len(running()) == 2 and min(running()) > 8, END_SECONDS, "work for both")
        for connection, answer in streams:
            answer.close()
            connection.close()
        self.assertEqual(complete(url, PROMPT, max_tokens=8, temperature=0), before)


class SeveralModels(ByHand):
    def status(self, rpc):
        return subprocess.run([program("shoal"), "status", "--coordinator", rpc], capture_output=True,
                              text=True, timeout=END_SECONDS, check=True).stdout

    def ask(self, url, **body):
        return programs.request(url, "/v1/completions", {
            "prompt": PROMPT, "max_tokens": 4, "temperature": 0, "ignore_eos": True,
            "return_token_ids": True, **body})

    def test_of_one_name_give_new_requests_to_the_version_ready_the_longest(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model)
        old = self.start_group(model, rpc, 2)
        url = coordinator.wait_until_ready()
        first = self.ask(url)[1]["system_fingerprint"]
        self.start_group(model, rpc, 1, "--kv-dtype", "f32")
        self.wait_for_groups(url, 2)
        self.assertEqual(self.ask(url)[1]["system_fingerprint"], first)
        self.assertIn("takes no new requests, groups ready 1", self.status(rpc))
        os.kill(old.ranks()[1], signal.SIGKILL)
        self.wait_for_groups(url, 1)
        status, answer = self.ask(url)
        self.assertEqual(status, 200, answer)
        self.assertNotEqual(answer["system_fingerprint"], first)

    def test_of_other_names_join_if_the_coordinator_lets_them(self):
        model, other = self.write_model("q4_1"), self.write_model("f16")
        name = os.path.basename(other).removesuffix(".gguf")
        _, rpc = self.start_coordinator(model)
        stranger = self.start_group(other, rpc, 1)
        self.assertEqual(stranger.wait()[0], 2, stranger.log())
        self.assertIn("--other-models", stranger.log())

        coordinator, rpc = self.start_coordinator(model, "--other-models")
        self.start_group(model, rpc, 2)
        url = coordinator.wait_until_ready()
        self.start_group(other, rpc, 1)
        self.wait_for_groups(url, 2)
        listed = [entry["id"] for entry in programs.request(url, "/v1/models")[1]["data"]]
        self.assertEqual(listed, ["q4_1", name])
        own, foreign = self.ask(url)[1], self.ask(url, model=name)[1]
        self.assertEqual([own["model"], foreign["model"]], listed)
        self.assertNotEqual(own["system_fingerprint"], foreign["system_fingerprint"])
        alone = self.ask(self.start_run(other).url)[1]
        self.assertEqual(alone["choices"][0]["token_ids"], foreign["choices"][0]["token_ids"])

    def test_have_canaries_that_must_agree(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model)
        self.start_group(model, rpc, 1)
        self.start_group(model, rpc, 2)
        self.wait_for_groups(coordinator.wait_until_ready(), 2)
        line = next(line for line in self.status(rpc).splitlines() if line.startswith("model "))
        numerics_id = line.split("numerics ")[1]
        digest = self.status(rpc).split("canary ")[1].split()[0]
        self.assertRegex(digest, "^[0-9a-f]{32}$")

        wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
        coordinator, rpc = self.start_coordinator(model, "--canary-digests", f"{numerics_id}={wrong}")
        group = self.start_group(model, rpc, 1)
        self.assertNotEqual(group.wait()[0], 0)
        wait_until(lambda: f"digest {digest}, those of" in coordinator.log(), END_SECONDS, "why")
        self.assert_ends(2, ["--canary-digests has 5"], program("shoal-coordinator"), "--model", model,
                         "--canary-digests", "5")
        self.assert_ends(2, [f"--canary-digests names {numerics_id} twice"], program("shoal-coordinator"),
                         "--model", model, "--canary-digests",
                         f"{numerics_id}={digest},{numerics_id}={wrong}")


if __name__ == "__main__":
    programs.main()
