#!/usr/bin/env python3
"""`shoal bench`: what it measures is there, whole and plausible. Speeds are not judged."""

import json
import subprocess
import xml.etree.ElementTree

import programs
from programs import ProgramTest, program


def bench(*arguments):
    done = subprocess.run([program("shoal"), "bench", *map(str, arguments)], capture_output=True,
                          text=True, timeout=5 * programs.READY_SECONDS)
    return done.returncode, done.stdout, done.stderr


class BenchServe(ProgramTest):
    def test_every_request_is_answered_in_every_mode(self):
        running = self.start_run(self.write_model("q4_1"))
        trace = self.folder / "trace"
        trace.write_text("0 20 5\n0.05 30 5\n0.05 10 5\n")
        for mode, count in ((["--concurrency", 4, "--requests", 10], 10),
                            (["--rate", 50, "--requests", 10], 10), (["--trace", trace], 3)):
            status, output, log = bench("serve", running.url, *mode, "--prompt-tokens", 20,
                                        "--output-tokens", 5, "--json")
            self.assertEqual(status, 0, log)
            summary = json.loads(output)
            self.assertEqual(summary["succeeded"], count)
            self.assertEqual(summary["completion_tokens"], 5 * count)
            first, whole = summary["time_to_first_token_ms"], summary["end_to_end_ms"]
            self.assertGreater(first["p50"], 0)
            self.assertLessEqual(first["p50"], first["p99"])
            self.assertLessEqual(first["max"], whole["max"])

    def test_a_refused_request_is_a_failure_and_not_a_latency(self):
        running = self.start_run(self.write_model("q4_1"))
        status, output, log = bench("serve", running.url, "--concurrency", 1, "--requests", 2,
                                    "--model-name", "another", "--json")
        self.assertEqual(status, 1, log)
        summary = json.loads(output)
        self.assertEqual(summary["failures"], {"status 404": 2})
        self.assertIsNone(summary["time_to_first_token_ms"])

    def test_nobody_listening_is_3_and_a_wrong_mode_2(self):
        self.assertEqual(bench("serve", f"http://127.0.0.1:{programs.free_port()}",
                               "--concurrency", 1)[0], 3)
        self.assertEqual(bench("serve", "http://127.0.0.1:1")[0], 2)
        self.assertEqual(bench("serve", "http://127.0.0.1:1", "--rate", 1, "--concurrency", 1)[0], 2)
        self.assertEqual(bench("nonsense")[0], 2)


class BenchEngine(ProgramTest):
    def test_two_ranks_give_every_figure(self):
        status, output, log = bench("engine", self.write_model("q4_1"), "--tensor-parallel", 2,
                                    "--threads", 1, "--prompt-tokens", 20, "--decode-tokens", 4,
                                    "--repeat", 1)
        self.assertEqual(status, 0, log)
        figures = json.loads(output)
        self.assertEqual(figures["ranks"], 2)
        for name in ("prefill_tokens_per_second", "decode_tokens_per_second_batch_1",
                     "decode_tokens_per_second_batch_16"):
            self.assertGreater(figures[name], 0)


class Perplexity(ProgramTest):
    def perplexity(self, model, *arguments, ranks=1):
        command = [program("shoal-worker"), "perplexity", model, "--tensor-parallel", ranks,
                   "--threads", 1, *arguments]
        done = subprocess.run([*programs.mpirun(ranks), *map(str, command)], capture_output=True,
                              text=True, timeout=programs.READY_SECONDS)
        return done.returncode, done.stdout, done.stderr

    def test_a_text_and_its_tokens_are_scored_alike_at_every_cut(self):
        model = self.write_model("q4_1")
        text, ids = self.folder / "text", self.folder / "ids"
        text.write_text("the quick brown fox " * 60)
        status, output, log = self.perplexity(model, "--text", text)
        self.assertEqual(status, 0, log)
        figures = dict(line.split() for line in output.splitlines())
        self.assertGreater(float(figures["perplexity"]), 1)
        self.assertGreater(int(figures["scored_tokens"]), 512)
        self.assertEqual(self.perplexity(model, "--text", text, ranks=2)[1], output)
        ids.write_text(json.dumps({"ids": [5, 6] * 100, "window": 50}))
        status, output, log = self.perplexity(model, "--ids", ids)
        self.assertEqual(status, 0, log)
        self.assertIn("scored_tokens 196\n", output)

    def test_a_missing_or_empty_text_is_named(self):
        model = self.write_model("q4_1")
        empty = self.folder / "empty"
        empty.write_text("")
        for arguments, complaint in (([], "--text FILE"), (["--text", empty], "two or more"),
                                     (["--text", self.folder / "none"], "No such file"),
                                     (["--text", self.folder], "Is a directory"),
                                     (["--ids", empty], "expected a JSON object")):
            status, _, log = self.perplexity(model, *arguments)
            self.assertEqual(status, 2, log)
            self.assertIn(complaint, log)


class Convert(ProgramTest):
    def test_calibration_keeps_the_model_and_names_what_is_wrong(self):
        model, text = self.write_model("q4_1"), self.folder / "text"
        text.write_text("the quick brown fox " * 60)
        plain, balanced = self.folder / "plain.gguf", self.folder / "balanced.gguf"
        for output, extra in ((plain, []), (balanced, ["--calibration", text])):
            command = [program("shoal"), "convert", model, output, "--to", "int8", *extra]
            done = subprocess.run([*map(str, command)], capture_output=True, text=True,
                                  timeout=programs.READY_SECONDS)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(plain.stat().st_size, balanced.stat().st_size)
        self.assertNotEqual(plain.read_bytes(), balanced.read_bytes())
        missing, output = self.folder / "none", self.folder / "out.gguf"
        done = subprocess.run([str(program("shoal")), "convert", str(model), str(output), "--to",
                               "int8", "--calibration", str(missing)], capture_output=True,
                              text=True, timeout=programs.READY_SECONDS)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(str(missing), done.stderr)
        self.assertFalse(output.exists())


class BenchPlan(ProgramTest):
    def test_sets_prediction_beside_measurement(self):
        status, output, log = bench("plan", self.write_model("q4_1"), "--tensor-parallel", 2,
                                    "--threads", 1, "--prompt-tokens", 20, "--decode-tokens", 4,
                                    "--repeat", 1, "--json")
        self.assertEqual(status, 0, log)
        for figure in ("decode", "prefill"):
            found = json.loads(output)[figure]
            self.assertAlmostEqual(found["ratio"], found["measured_tokens_per_second"] /
                                   found["predicted_tokens_per_second"])


class BenchExactness(ProgramTest):
    def test_compares_pairs_and_judges_by_the_bound(self):
        status, output, log = bench("exactness", self.write_model("q4_1"), "--threads", 1, "--pairs", 1,
                                    "--prompt-tokens", 80, "--decode-tokens", 4, "--json")
        self.assertIn(status, (0, 1), log)
        result = json.loads(output)
        medians = [result[f"{name}_tokens_per_second{of}"]["median"]
                   for name, of in (("prefill", ""), ("decode", "_batch_1"), ("decode", "_batch_16"))]
        self.assertEqual(result["within_bound"], min(medians) >= 0.95)
        self.assertEqual(status, 0 if result["within_bound"] else 1)


class BenchOverload(ProgramTest):
    RUN_KEYS = ["arm", "shape", "factor", "seconds", "calls", "offered_per_second", "goodput_per_second",
                "classes", "rejection_ms", "attempts_per_call", "patient_attempts_per_call",
                "admitted_per_call", "outcomes", "untyped", "retries_withheld", "degraded", "lateness_ms",
                "recovery_seconds", "goodput_share"]

    def measure(self, *arguments):
        files = self.folder / "overload.json", self.folder / "overload.svg"
        status, output, log = bench("overload", self.write_model("q4_1"), "--sequences-max", 2,
                                    "--seconds", 1, "--storm-seconds", 1, "--calm-seconds", 2, "--json",
                                    files[0], "--plot", files[1], *arguments)
        self.assertEqual(status, 0, log)
        return json.loads(files[0].read_text()), files[1].read_text(), output

    def test_both_arms_give_every_figure_and_lose_nothing_without_a_word(self):
        result, plot, text = self.measure("--arms", "protected,control", "--shapes", "steady,storm",
                                          "--factors", "1,2")
        for name in ("capacity_per_second", "capacity_after_per_second", "peak_per_second", "seconds",
                     "storm_seconds", "calm_seconds", "groups", "sequences_max", "seed",
                     "work_tokens_mean"):
            self.assertGreater(result[name], 0, name)
        self.assertGreater(result["unloaded_ttft_ms"]["p99"], 0)
        names = [(run["arm"], run["shape"], run["factor"]) for run in result["runs"]]
        self.assertEqual(names, [(arm, *run) for arm in ("protected", "control")
                                 for run in (("steady", 1), ("steady", 2), ("storm", 10))])
        for run in result["runs"]:
            self.assertEqual(sorted(run), sorted(self.RUN_KEYS))
            self.assertEqual(list(run["classes"]), ["vip", "normal", "batch"])
            self.assertEqual(run["untyped"], 0, run)
            self.assertGreater(run["offered_per_second"], 0, run)
            if run["factor"] == 1:
                self.assertGreater(run["outcomes"]["whole"], 0, run)
            attempts = round(run["attempts_per_call"] * run["calls"])
            self.assertEqual(sum(run["outcomes"].values()), attempts, run)
        self.assertEqual(len(result["targets"]), 8)
        self.assertIn("Targets", text)
        drawing = xml.etree.ElementTree.fromstring(plot)
        lines = [element for element in drawing if element.tag.endswith("polyline")]
        self.assertEqual(len(lines), 3)  # The peak and two arms.

    def test_a_layer_off_alone_is_told_by_what_the_others_caught(self):
        result, _, text = self.measure("--without", "routing")
        self.assertEqual([layer["arm"] for layer in result["layers"]],
                         ["control", "protected", "no_routing"])
        for layer in result["layers"]:
            self.assertEqual(list(layer["caught"]), ["client_retry", "edge_limit", "admission", "routing",
                                                     "degradation", "client_timeout"])
        self.assertEqual([layer["holds"] is None for layer in result["layers"]], [True, True, False])
        self.assertIn("whether the others hold without one", text)

    def test_wrong_lists_name_what_there_is(self):
        status, _, log = bench("overload", "model.gguf", "--without", "control")
        self.assertEqual(status, 2, log)
        self.assertIn("client_retry, edge_limit, admission, routing, degradation", log)
        for flag, value, expected in (("--arms", "protected,none", "no_edge_limit"),
                                      ("--shapes", "square", "eighty_twenty"),
                                      ("--factors", "1,0", "1,2,10")):
            status, _, log = bench("overload", "model.gguf", flag, value)
            self.assertEqual(status, 2, log)
            self.assertIn(expected, log)


class BenchRouter(ProgramTest):
    def test_every_arm_is_answered_and_every_target_has_its_figure(self):
        path = self.folder / "router.json"
        status, output, log = bench("router", self.write_model("q4_1"), "--quick", "--seconds", 1,
                                    "--rate", 50, "--count", 200, "--streams", 50, "--json", path)
        self.assertEqual(status, 0, log)
        result = json.loads(path.read_text())
        self.assertEqual([core["groups"] for core in result["core"]], [8, 64])
        for core in result["core"]:
            self.assertEqual({one["count"] for one in core["decisions"]}, {200})
            self.assertGreater(core["admissions"]["per_second"], 0)
        beside = result["haproxy"] is not None
        runs = {run["arm"]: run for run in result["hop"]["runs"]}
        expected = {"coordinator", "groups"} | ({"backend", "haproxy", "haproxy_groups"} if beside else set())
        self.assertEqual(set(runs), expected)
        for run in runs.values():
            self.assertEqual(run["failed"], 0, run)
            self.assertLessEqual(run["p50_ms"], run["p99_ms"])
        self.assertGreater(result["hop"]["door_admissions_per_second"][0], 0)
        reached = [target["reached"] is not None for target in result["targets"]]
        self.assertEqual(reached, [True, True, True, beside, beside])
        self.assertIn("Targets", output)
        if not beside:
            self.assertIn("apt-get install -y haproxy", log)

    def test_a_model_that_is_not_there_is_2(self):
        status, _, log = bench("router", self.folder / "none.gguf", "--quick", "--count", 100)
        self.assertEqual(status, 2, log)
        self.assertIn("none.gguf", log)


if __name__ == "__main__":
    programs.main()
