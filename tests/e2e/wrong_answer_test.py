#!/usr/bin/env python3
"""Groups that compute wrongly: found by their ranks' digests within a step, or by the canary's digest that
the model's manifest tells."""

import json
import pathlib
import select
import subprocess
import urllib.request

import programs
from programs import END_SECONDS, ProgramTest, complete, free_port, mpirun, program, wait_until

PROMPT = list(range(7, 40))


class WrongAnswers(ProgramTest):
    def start_coordinator(self, model, *flags):
        rpc = free_port()
        coordinator = self.start(program("shoal-coordinator"), "--model", model, "--port", "0",
                                 "--rpc-port", rpc, *flags)
        wait_until(lambda: "HTTP on" in coordinator.log() or coordinator.process.poll() is not None,
                   programs.READY_SECONDS, "the coordinator's ports")
        return coordinator, f"127.0.0.1:{rpc}"

    def start_group(self, model, rpc, ranks, fault=None, pipeline=1):
        return self.start(*mpirun(ranks * pipeline), program("shoal-worker"), "--model", model,
                          "--coordinator", rpc, "--tensor-parallel", ranks, "--pipeline-parallel", pipeline,
                          "--threads", "1", "--join-timeout-ms", "20000",
                          env={"SHOAL_PLANT_FAULT": fault} if fault else None)

    def assert_never_ready(self, coordinator):
        readable, _, _ = select.select([coordinator.process.stdout], [], [], 0)
        self.assertFalse(readable, coordinator.log())

    def write_manifest(self, model):
        subprocess.run([program("shoal"), "verify", model, "--threads", "1", "--write"], check=True,
                       capture_output=True, timeout=100)
        path = pathlib.Path(f"{model}.manifest.json")
        self.addCleanup(path.unlink)  # Other tests have the same model.
        return path

    def test_in_the_canary_keep_a_group_from_ever_serving(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model)
        for pipeline in (1, 2):
            group = self.start_group(model, rpc, 2, "wrong-sum:rank=1,step=0", pipeline)
            self.assertEqual(group.wait()[0], 1, group.log())
            self.assertIn("stage 0: ranks that must hold the same bits do not", group.log())
        self.assert_never_ready(coordinator)
        # The same coordinator takes one that is sound.
        self.start_group(model, rpc, 2)
        self.assertEqual(len(complete(coordinator.wait_until_ready(), PROMPT, max_tokens=8,
                                      ignore_eos=True)), 8)

    def test_end_a_group_that_served_before_any_token_of_the_step_is_told(self):
        model = self.write_model("q4_1")
        coordinator, rpc = self.start_coordinator(model)
        self.start_group(model, rpc, 1)
        expected = complete(coordinator.wait_until_ready(), PROMPT, max_tokens=60, ignore_eos=True,
                            temperature=0)
        coordinator, rpc = self.start_coordinator(model)
        group = self.start_group(model, rpc, 2, "wrong-sum:rank=0,step=30")
        answer = self.open_stream(coordinator.wait_until_ready(), 60)
        self.assertEqual(group.wait()[0], 1, group.log())
        self.assertIn("ranks that must hold the same bits do not", group.log())
        self.start_group(model, rpc, 1)  # For a stream that goes on elsewhere.
        tokens = []
        for line in answer:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", []):
                    tokens += choice.get("token_ids") or []
        self.assertGreater(len(tokens), 0)
        self.assertEqual(tokens, expected[:len(tokens)])

    def open_stream(self, url, max_tokens):
        model = programs.request(url, "/v1/models")[1]["data"][0]["id"]
        body = json.dumps({"model": model, "prompt": PROMPT, "max_tokens": max_tokens, "stream": True,
                           "ignore_eos": True, "temperature": 0, "return_token_ids": True}).encode()
        asked = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
        answer = urllib.request.urlopen(asked, timeout=END_SECONDS)
        self.addCleanup(answer.close)
        return answer

    def test_of_one_rank_are_found_by_the_manifest(self):
        model = self.write_model("q4_1")
        path = self.write_manifest(model)
        coordinator, rpc = self.start_coordinator(model)
        self.assertIn(str(path), coordinator.log())
        # One rank alone has nobody to compare with.
        group = self.start_group(model, rpc, 1, "wrong-sum:rank=0,step=0")
        self.assertNotEqual(group.wait()[0], 0)
        wait_until(lambda: "its canary" in coordinator.log(), END_SECONDS, "why")
        self.assert_never_ready(coordinator)
        self.start_group(model, rpc, 1)
        coordinator.wait_until_ready()

    def test_are_told_of_by_a_flag_rather_than_the_manifest(self):
        model = self.write_model("q4_1")
        path = self.write_manifest(model)
        entry = json.loads(path.read_text())["canaries"][0]
        coordinator, _ = self.start_coordinator(model, "--canary-digests",
                                                f"{entry['numerics_id']}={'0' * 32}")
        wait_until(lambda: "the flag counts" in coordinator.log(), END_SECONDS, "a warning")
        path.write_text("{}")
        self.assert_ends(2, [str(path), "has no \"format\""], program("shoal-coordinator"), "--model", model,
                         "--port", "0", "--rpc-port", free_port())


if __name__ == "__main__":
    programs.main()
