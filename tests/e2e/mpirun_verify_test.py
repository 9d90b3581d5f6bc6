#!/usr/bin/env python3
"""Digests of a model under real mpirun: the same for every cut, and for a different instruction set
on every rank."""

import json
import pathlib
import subprocess

import programs
from programs import ProgramTest, mpirun, program


class Digests(ProgramTest):
    def digests(self, command):
        running = self.start(*command)
        status, output = running.wait(100)
        self.assertEqual(status, 0, running.log())
        lines = sorted(output.splitlines())
        self.assertEqual([line.split()[:2] for line in lines],
                         [["digest", "logits"], ["digest", "numerics_id"], ["digest", "sampled"]])
        for line in lines:
            self.assertRegex(line, "^digest [a-z_]+ [0-9a-f]{32}$")
        return lines

    def worker(self, tensor, pipeline):
        return [program("shoal-worker"), "verify", self.model, "--tensor-parallel", tensor,
                "--pipeline-parallel", pipeline, "--threads", "1"]

    def setUp(self):
        self.model = self.write_model("q4_1")

    def test_are_equal_for_every_cut(self):
        whole = self.digests(self.worker(1, 1))
        for tensor, pipeline in ((2, 1), (1, 2), (3, 2), (8, 3)):
            with self.subTest(tensor=tensor, pipeline=pipeline):
                command = mpirun(tensor * pipeline) + self.worker(tensor, pipeline)
                self.assertEqual(self.digests(command), whole)

    def test_are_equal_with_another_instruction_set_on_each_rank(self):
        listing = subprocess.run([program("shoal"), "version", "--json"], capture_output=True,
                                 text=True, timeout=programs.END_SECONDS, check=True).stdout
        sets = json.loads(listing)["instruction_sets"]
        command = mpirun(None)
        for rank in range(6):
            command += [":"] if rank else []
            command += ["-np", "1", "-x", f"SHOAL_FORCE_ISA={sets[rank % len(sets)]}"]
            command += self.worker(3, 2)
        self.assertEqual(self.digests(command), self.digests(self.worker(1, 1)))

    def test_are_equal_over_every_communicator(self):
        whole = self.digests(self.worker(1, 1))
        for comm in ("tcp", "mpi"):
            with self.subTest(comm=comm):
                command = mpirun(2) + self.worker(2, 1) + ["--comm", comm]
                self.assertEqual(self.digests(command), whole)


class ShoalVerify(ProgramTest):
    def test_keeps_digests_and_compares_with_them(self):
        model = self.write_model("q4_0")
        kept = self.folder / "digests.json"
        verify = [program("shoal"), "verify", model, "--threads", "1"]
        for flags in (["--write", kept], ["--against", kept, "--tensor-parallel", "2"]):
            running = self.start(*verify, *flags)
            self.assertEqual(running.wait(60)[0], 0, running.log())
        content = json.loads(kept.read_text())
        self.assertEqual(sorted(content["q4_0"]), ["logits", "numerics_id", "sampled"])
        content["q4_0"]["sampled"] = "0" * 32
        kept.write_text(json.dumps(content))
        running = self.start(*verify, "--against", kept)
        self.assertEqual(running.wait(60)[0], 1)
        self.assertIn("sampled: expected 00000000", running.log())

    def test_refuses_a_file_without_the_model(self):
        empty = self.folder / "empty.json"
        empty.write_text("{}")
        self.assert_ends(2, [str(empty), "q4_1"], program("shoal"), "verify",
                         self.write_model("q4_1"), "--against", empty)


class Manifest(ProgramTest):
    KV_DTYPES = ("f16", "f32", "bf16", "int8")

    def verify(self, model, *flags):
        running = self.start(program("shoal"), "verify", model, "--threads", "1", *flags)
        status, output = running.wait(100)
        return status, output, running.log()

    def test_is_written_beside_the_model_and_compared_with(self):
        model = self.write_model("q4_0")
        path = pathlib.Path(f"{model}.manifest.json")
        self.addCleanup(path.unlink)  # Other tests have the same model.
        status, output, log = self.verify(model, "--write")
        self.assertEqual(status, 0, log)
        self.assertIn(f"written: {path}", output)
        content = json.loads(path.read_text())
        self.assertEqual((content["format"], content["version"], content["model"]),
                         ("shoal-manifest", 1, "q4_0"))
        self.assertEqual(tuple(entry["kv_dtype"] for entry in content["canaries"]), self.KV_DTYPES)
        self.assertEqual(len({entry["numerics_id"] for entry in content["canaries"]}), 4)

        for flags in ((), ("--tensor-parallel", "2", "--kv-dtype", "int8")):
            status, output, log = self.verify(model, *flags)
            self.assertEqual(status, 0, log)
            self.assertIn(f"as in {path}", output)

        kept = content["canaries"][0]["digest"]
        content["canaries"][0]["digest"] = "0" * 32
        path.write_text(json.dumps(content))
        status, _, log = self.verify(model)
        self.assertEqual(status, 1, log)
        self.assertIn(f"canary: expected {'0' * 32}", log)
        self.assertIn(f"found {kept}", log)
        self.assertEqual(self.verify(model, "--kv-dtype", "bf16")[0], 0)

        path.write_text(json.dumps(content)[:-20])
        status, _, log = self.verify(model)
        self.assertEqual(status, 2, log)
        self.assertIn(f"{path}: is not JSON", log)

    def test_says_nothing_of_a_file_that_was_changed(self):
        folder = self.write_model("bf16_folder")
        status, _, log = self.verify(folder, "--write", "--kv-dtype", "f16")
        self.assertEqual(status, 0, log)
        path = pathlib.Path(folder) / "shoal-manifest.json"
        content = json.loads(path.read_text())
        self.assertEqual([entry["kv_dtype"] for entry in content["canaries"]], ["f16"])
        status, _, log = self.verify(folder, "--kv-dtype", "f32")
        self.assertEqual(status, 1, log)
        self.assertIn("has no canary with a f32 cache", log)

        weights = next(pathlib.Path(folder).glob("*.safetensors"))
        data = bytearray(weights.read_bytes())
        data[-1000] ^= 1
        weights.write_bytes(data)
        status, _, log = self.verify(folder)
        self.assertEqual(status, 1, log)
        self.assertIn("the manifest is of another file", log)


if __name__ == "__main__":
    programs.main()
