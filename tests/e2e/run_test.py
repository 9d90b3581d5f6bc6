#!/usr/bin/env python3
"""`shoal run`: what it prints, answers and returns, and that no process outlives it."""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error

import programs
from programs import ProgramTest, complete, program, request, wait_until

PROMPT = list(range(7, 40))
JSON_HEADER = ("--header", "Content-Type: application/json")


class RunAnswers(ProgramTest):
    def test_the_same_tokens_for_every_cut(self):
        model = self.write_model("q4_1")
        answers = []
        for flags in ([], ["--tensor-parallel", "2"],
                      ["--tensor-parallel", "2", "--pipeline-parallel", "2"]):
            running = self.start_run(model, *flags)
            self.assertEqual(len(running.ranks()), {0: 1, 2: 2, 4: 4}[len(flags)])
            greedy = complete(running.url, PROMPT, max_tokens=20, temperature=0, ignore_eos=True)
            drawn = complete(running.url, PROMPT, max_tokens=20, seed=5, ignore_eos=True)
            self.assertEqual(len(greedy), 20)
            answers.append((greedy, drawn))
            self.assert_stops(running)
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(answers[0], answers[2])

    def test_under_the_name_it_was_given(self):
        running = self.start_run(self.write_model("q4_1"), "--served-model-name", "little")
        self.assertEqual(request(running.url, "/v1/models")[1]["data"][0]["id"], "little")
        self.assertTrue(complete(running.url, PROMPT, max_tokens=3))

    def test_tells_its_rpc_port_and_is_found_without_it(self):
        environment = {"XDG_RUNTIME_DIR": str(self.folder)}
        model = self.write_model("q4_1")
        running = self.start_run(model, env=environment)
        told = re.search(r"ready at (\S+); for shoal status, .*: --coordinator (127\.0\.0\.1:\d+)\n",
                         running.log())
        self.assertEqual(told[1], running.url)

        def ask(*words):
            return subprocess.run([program("shoal"), *words], capture_output=True, text=True,
                                  timeout=programs.END_SECONDS, env={**os.environ, **environment})

        found = ask("status", "--coordinator", told[2], "--json")
        self.assertEqual(found.returncode, 0, found.stderr)
        epoch = json.loads(found.stdout)["groups"][0]["epoch"]
        with socket.socket() as usual:
            if usual.connect_ex(("127.0.0.1", 7400)) == 0:
                return  # Another coordinator of this machine has the port that is asked first.
        self.assertEqual(json.loads(ask("status", "--json").stdout)["groups"][0]["epoch"], epoch)
        second = self.start_run(model, env=environment)
        several = ask("postmortem")
        self.assertEqual(several.returncode, 2, several.stdout)
        for words in (running.url, second.url, "say which one with --coordinator"):
            self.assertIn(words, several.stderr)
        self.assert_stops(second)
        self.assertEqual(ask("postmortem").returncode, 0)
        self.assert_stops(running)
        self.assertEqual(list((self.folder / "shoal").iterdir()), [])

    def test_on_the_address_it_was_given_alone(self):
        running = self.start_run(self.write_model("q4_1"), "--bind", "127.0.0.2")
        self.assertTrue(running.url.startswith("http://127.0.0.2:"), running.url)
        self.assertTrue(complete(running.url, PROMPT, max_tokens=3))
        with self.assertRaises(urllib.error.URLError):
            request(running.url.replace("127.0.0.2", "127.0.0.1"), "/livez")

    def test_from_a_cache_of_so_many_bytes(self):
        running = self.start_run(self.write_model("q4_1"), "--kv-cache-bytes-max", "100000")
        self.assertIn("KV cache 98304 for 64 tokens", running.log())
        self.assertEqual(len(complete(running.url, PROMPT[:30], max_tokens=34, ignore_eos=True)), 34)
        status, answer = request(running.url, "/v1/completions",
                                 {"prompt": PROMPT[:30], "max_tokens": 35})
        self.assertEqual(status, 400, answer)
        status, answer = request(running.url, "/v1/chat/completions",
                                 {"messages": [{"role": "user", "content": "a"}]})
        self.assertEqual(status, 200, answer)

    def test_with_a_key_only(self):
        keys = self.folder / "keys"
        keys.write_text("open sesame\n")
        running = self.start_run(self.write_model("q4_1"), "--api-keys-file", keys)
        self.assertEqual(request(running.url, "/v1/models")[0], 401)
        self.assertEqual(request(running.url, "/livez")[0], 200)


class RunStops(ProgramTest):
    def test_on_sigint(self):
        running = self.start_run(self.write_model("q4_1"), "--tensor-parallel", "2")
        self.assert_stops(running, signal.SIGINT)
        self.assertEqual(running.process.stdout.read(), "", "stdout carries one line")

    def test_in_the_middle_of_an_answer(self):
        running = self.start_run(self.write_model("long"), "--tensor-parallel", "2")
        model = request(running.url, "/v1/models")[1]["data"][0]["id"]
        asking = subprocess.Popen(
            ["curl", "-sN", running.url + "/v1/completions", *JSON_HEADER, "-d",
             '{"model":"%s","prompt":[1,2,3],"max_tokens":500,"stream":true,"ignore_eos":true}' % model],
            stdout=subprocess.PIPE)
        self.addCleanup(asking.stdout.close)
        self.addCleanup(asking.kill)
        self.assertTrue(asking.stdout.readline())
        self.assert_stops(running)
        # Read what is left of the answer: it may be more than the pipe holds.
        asking.communicate(timeout=programs.END_SECONDS)

    def test_before_it_is_ready(self):
        running = self.start(program("shoal"), "run", self.write_model("q4_1"), "--port", "0",
                             "--tensor-parallel", "2")
        wait_until(running.look, programs.READY_SECONDS, "mpirun")
        running.signal(signal.SIGTERM)
        status, _ = running.wait(programs.STOP_SECONDS)
        self.assertEqual(status, 0, running.log())
        wait_until(lambda: not running.living_descendants(), programs.STOP_SECONDS, "the end of all")

    def test_before_it_has_read_anything(self):
        config = self.folder / "never_written.yaml"
        os.mkfifo(config)
        for command in ([program("shoal"), "run", "--config", config],
                        [program("shoal-coordinator"), "--config", config]):
            for number in (signal.SIGTERM, signal.SIGINT):
                running = self.start(*command)
                wait_until(lambda: programs.catches(running.pid, number), programs.STOP_SECONDS,
                           "its handler")
                running.signal(number)
                status, _ = running.wait(programs.STOP_SECONDS)
                self.assertEqual(status, 0, running.log())

    def test_its_descendants_even_when_it_is_killed(self):
        running = self.start_run(self.write_model("q4_1"), "--tensor-parallel", "2")
        self.assertEqual(len(running.ranks()), 2)
        running.signal(signal.SIGKILL)
        running.wait()
        wait_until(lambda: not running.living_descendants(), programs.STOP_SECONDS, "the end of all")


class RunFails(ProgramTest):
    """Without relaunching: the first loss is the end."""

    def assert_names_the_rank(self, flags, rank):
        running = self.start_run(self.write_model("q4_1"), "--relaunch", "off", *flags)
        os.kill(running.ranks()[rank], signal.SIGKILL)
        status, _ = running.wait()
        self.assertEqual(status, 1, running.log())
        self.assertIn(f"rank {rank} was ended by signal 9 (Killed)", running.log())
        self.assertEqual(running.living_descendants(), [])

    def test_with_1_when_a_rank_is_killed(self):
        self.assert_names_the_rank(["--tensor-parallel", "3"], 1)

    def test_with_1_when_the_leader_is_killed(self):
        self.assert_names_the_rank(["--tensor-parallel", "2"], 0)

    def test_with_1_when_the_only_rank_is_killed(self):
        self.assert_names_the_rank([], 0)

    def test_with_1_when_the_only_group_is_told_to_end(self):
        running = self.start_run(self.write_model("q4_1"), "--relaunch", "off")
        os.kill(running.ranks()[0], signal.SIGTERM)
        status, _ = running.wait()
        self.assertEqual(status, 1, running.log())
        self.assertIn("the only group was told to end", running.log())
        self.assertEqual(running.living_descendants(), [])

    def test_with_1_when_a_rank_is_stopped(self):
        running = self.start_run(self.write_model("q4_1"), "--relaunch", "off", "--tensor-parallel",
                                 "2")
        stopped = running.ranks()[1]
        os.kill(stopped, signal.SIGSTOP)
        status, _ = running.wait()
        self.assertEqual(status, 1, running.log())
        self.assertIn(f"pid {stopped}", running.log())
        self.assertEqual(running.living_descendants(), [])

    def test_with_1_when_mpirun_is_killed(self):
        running = self.start_run(self.write_model("very_long"), "--relaunch", "off",
                                 "--tensor-parallel", "2")
        model = request(running.url, "/v1/models")[1]["data"][0]["id"]
        # Found before, so that the signal comes while the answer has thousands of tokens to go.
        mpirun = next(pid for pid, command in running.look().items() if command[0] == "mpirun")
        asking = subprocess.Popen(
            ["curl", "-sN", running.url + "/v1/completions", *JSON_HEADER, "-d",
             '{"model":"%s","prompt":[1,2,3],"max_tokens":8000,"stream":true,"ignore_eos":true}' % model],
            stdout=subprocess.PIPE, text=True)
        self.addCleanup(asking.stdout.close)
        self.addCleanup(asking.kill)
        self.assertTrue(asking.stdout.readline())
        os.kill(mpirun, signal.SIGKILL)
        status, _ = running.wait()
        self.assertEqual(status, 1, running.log())
        self.assertIn("shoal run: mpirun was ended by signal 9 (Killed)", running.log())
        self.assertIn('"code":"group_lost"', asking.stdout.read())
        self.assertEqual(running.living_descendants(), [])

    def test_with_1_when_stdout_cannot_be_written(self):
        model = self.write_model("q4_1")
        for arguments in (["run", model, "--port", "0"], ["plan", model], ["verify", model]):
            with open("/dev/full", "w") as full:
                done = subprocess.run([program("shoal"), *arguments], stdin=subprocess.DEVNULL,
                                      stdout=full, stderr=subprocess.PIPE, text=True,
                                      timeout=programs.END_SECONDS)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("stdout cannot be written", done.stderr)

    def test_with_1_when_nothing_is_ready_in_time(self):
        self.assert_ends(1, ["not ready within 100 ms", "--ready-timeout-ms"], program("shoal"),
                         "run", self.write_model("q4_1"), "--port", "0", "--tensor-parallel", "8",
                         "--ready-timeout-ms", "100")


class RunStartsGroupsAnew(ProgramTest):
    def start_groups(self, count, *flags, model="q4_1"):
        running = self.start_run(self.write_model(model), "--groups", str(count), *flags)
        wait_until(lambda: self.ready(running) == set(range(count)), programs.READY_SECONDS,
                   f"{count} groups")
        return running

    def ready(self, running):
        return {n for n, group in programs.groups(running.url).items() if group["state"] == "ready"}

    def pids(self, running, group):
        return [rank["pid"] for rank in programs.groups(running.url)[group]["ranks"]]

    def wait_for_another(self, running, group, before):
        """Waits until the group is ready under another epoch than `before`; returns its status."""
        def found():
            status = programs.groups(running.url)[group]
            return status["state"] == "ready" and status["epoch"] > before["epoch"] and status
        return wait_until(found, programs.READY_SECONDS, f"group {group} again")

    def status_json(self, running):
        """What `shoal status --json` says, which must be what GET /v1/cluster does."""
        rpc = re.search(r"upstream programs on (127\.0\.0\.1:\d+)", running.log())[1]
        done = subprocess.run([program("shoal"), "status", "--coordinator", rpc, "--json"],
                              capture_output=True, text=True, timeout=programs.END_SECONDS, check=True)
        status = json.loads(done.stdout)
        cluster = request(running.url, "/v1/cluster")[1]
        self.assertEqual(sorted(status), sorted(cluster))
        return status

    def test_one_of_two_while_the_other_serves(self):
        running = self.start_groups(2, "--tensor-parallel", "2")
        expected = complete(running.url, PROMPT, max_tokens=8, seed=3, ignore_eos=True)
        before = programs.groups(running.url)
        killed = self.pids(running, 0)
        self.assertEqual(sorted(killed), sorted(running.ranks(group=0)))
        os.kill(killed[1], signal.SIGKILL)
        for _ in range(5):
            self.assertEqual(complete(running.url, PROMPT, max_tokens=8, seed=3, ignore_eos=True),
                             expected)
        after = self.wait_for_another(running, 0, before[0])
        self.assertTrue(set(self.pids(running, 0)).isdisjoint(killed))
        self.assertIn(str(killed[1]), after["last_loss"])
        self.assertTrue(after["managed"])
        self.assertEqual(programs.groups(running.url)[1]["epoch"], before[1]["epoch"])
        wait_until(lambda: not any(programs.is_running(pid) for pid in killed),
                   programs.STOP_SECONDS, "the end of the lost group's ranks")
        status = self.status_json(running)
        self.assertEqual(status["groups_lost_total"], 1)
        self.assertEqual([group["restarts_total"] for group in status["groups"]], [1, 0])
        samples = programs.metrics(running.url, labels=True)
        self.assertEqual(samples["shoal_group_restarts_total"], 1)
        self.assertEqual(samples['shoal_groups_lost_total{cause="rank_died"}'], 1)
        self.assertEqual(complete(running.url, PROMPT, max_tokens=8, seed=3, ignore_eos=True), expected)
        self.assert_stops(running)

    def test_the_only_one(self):
        running = self.start_groups(1)
        expected = complete(running.url, PROMPT, max_tokens=8, seed=3, ignore_eos=True)
        before = programs.groups(running.url)[0]
        os.kill(running.ranks()[0], signal.SIGKILL)
        self.wait_for_another(running, 0, before)
        self.assertEqual(complete(running.url, PROMPT, max_tokens=8, seed=3, ignore_eos=True), expected)
        self.assert_stops(running)
        self.assertEqual(running.process.stdout.read(), "", "ready is said once")

    def test_and_a_stream_goes_on_with_the_same_tokens(self):
        for count in (1, 2):
            running = self.start_groups(count, "--tensor-parallel", "2", model="very_long")

            def ask():
                status, answer = request(running.url, "/v1/completions", {
                    "prompt": PROMPT, "return_token_ids": True, "max_tokens": 8000, "n": 8,
                    "seed": 5, "ignore_eos": True})
                self.assertEqual(status, 200, answer)
                return [choice["token_ids"] for choice in answer["choices"]]

            expected = ask()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                answer = pool.submit(ask)
                busy = wait_until(
                    lambda: [group for group in programs.groups(running.url).values()
                             if group["streams"] > 0], programs.END_SECONDS, "a stream")
                os.kill(busy[0]["ranks"][1]["pid"], signal.SIGKILL)
                self.assertEqual(answer.result(programs.END_SECONDS), expected)
            resumed = self.status_json(running)["streams_resumed_total"]
            self.assertGreater(resumed, 0)
            samples = programs.metrics(running.url, labels=True)
            self.assertEqual(samples['shoal_streams_resumed_total{cause="rank_died"}'], resumed)
            self.assertEqual(samples["shoal_stream_stall_seconds_count"], resumed)
            self.assert_stops(running)

    def test_unless_its_leader_is_told_to_end(self):
        running = self.start_groups(2, "--tensor-parallel", "2")
        os.kill(running.ranks(group=1)[0], signal.SIGTERM)
        wait_until(lambda: programs.groups(running.url)[1]["state"] == "lost",
                   programs.STOP_SECONDS, "its end")
        away = programs.groups(running.url)[1]
        self.assertEqual((away["next_start_ms"], away["restarts_total"]), (None, 0))
        self.assertEqual(self.status_json(running)["groups_lost_total"], 0)
        self.assertTrue(complete(running.url, PROMPT, max_tokens=8))
        self.assert_stops(running)

    def test_when_mpirun_is_killed(self):
        running = self.start_groups(1, "--tensor-parallel", "2")
        before = programs.groups(running.url)[0]
        ranks = running.ranks()
        mpirun = next(pid for pid, command in running.look().items() if command[0] == "mpirun")
        os.kill(mpirun, signal.SIGKILL)
        after = self.wait_for_another(running, 0, before)
        self.assertIn("mpirun", after["last_loss"])
        self.assertFalse([pid for pid in ranks if programs.is_running(pid)])
        self.assert_stops(running)

    def test_when_a_rank_is_stopped(self):
        running = self.start_groups(1, "--tensor-parallel", "2")
        before = programs.groups(running.url)[0]
        stopped = running.ranks()[1]
        os.kill(stopped, signal.SIGSTOP)
        after = self.wait_for_another(running, 0, before)
        self.assertIn(f"pid {stopped}", after["last_loss"])
        self.assertFalse(programs.is_running(stopped))

    def test_and_takes_all_with_it_when_it_is_killed_itself(self):
        running = self.start_groups(2, "--tensor-parallel", "2")
        before = programs.groups(running.url)[0]
        os.kill(running.ranks(group=0)[0], signal.SIGKILL)
        self.wait_for_another(running, 0, before)
        running.look()
        running.signal(signal.SIGKILL)
        running.wait()
        wait_until(lambda: not running.living_descendants(), programs.STOP_SECONDS, "the end of all")

    def test_unless_it_is_drained(self):
        running = self.start_groups(2)
        rpc = re.search(r"upstream programs on (127\.0\.0\.1:\d+)", running.log())[1]
        before = programs.groups(running.url)[1]

        def drain(*arguments, status=0):
            done = subprocess.run([program("shoal"), "drain", *arguments, "--coordinator", rpc],
                                  capture_output=True, text=True, timeout=programs.END_SECONDS)
            self.assertEqual(done.returncode, status, done.stderr)
            return done.stderr

        drain("1", "--wait")
        away = programs.groups(running.url)[1]
        self.assertEqual((away["state"], away["next_start_ms"]), ("lost", None))
        self.assertTrue(complete(running.url, PROMPT, max_tokens=8))
        drain("1", "--restart", "--wait")
        again = programs.groups(running.url)[1]
        self.assertEqual(again["state"], "ready")
        self.assertGreater(again["epoch"], before["epoch"])
        drain("1", "--restart", "--wait")
        self.assertGreater(programs.groups(running.url)[1]["epoch"], again["epoch"])
        self.assertEqual(self.status_json(running)["groups_lost_total"], 0)
        self.assertIn("7", drain("7", status=2))
        self.assertIn("expected a number", drain("one", status=2))
        self.assert_stops(running)


class RunRefuses(ProgramTest):
    def assert_refuses(self, words, *flags, env=None, status=2):
        begin = time.monotonic()
        log = self.assert_ends(status, words, program("shoal"), "run", *flags, env=env)
        self.assertLess(time.monotonic() - begin, programs.END_SECONDS)
        return log

    def test_wrong_flags(self):
        model = self.write_model("q4_1")
        self.assert_refuses(["--tensor-paralel", "--tensor-parallel"], model, "--tensor-paralel", "2")
        self.assert_refuses(["--tensor-parallel", "'two'"], model, "--tensor-parallel", "two")
        self.assert_refuses(["MODEL is required"])
        self.assert_refuses(["--port", "'65536'"], model, "--port", "65536")

    def test_an_unknown_key_of_the_configuration_file(self):
        config = self.folder / "run.yaml"
        config.write_text("port: 0\ntensor_paralel: 2\n")
        self.assert_refuses([f"{config}, line 2", "tensor_parallel"], self.write_model("q4_1"),
                            "--config", config)

    def test_a_port_in_use(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = str(listener.getsockname()[1])
            log = self.assert_refuses([f"port {port} on 127.0.0.1 is in use: ", "another --port"],
                                      self.write_model("q4_1"), "--port", port)
            self.assertNotIn("bind(", log)

    def test_a_model_that_is_not_there(self):
        self.assert_refuses(["nowhere.gguf"], "nowhere.gguf")

    def test_a_truncated_model(self):
        whole = pathlib.Path(self.write_model("q4_1")).read_bytes()
        truncated = self.folder / "truncated.gguf"
        truncated.write_bytes(whole[:len(whole) // 2])
        log = self.assert_refuses([str(truncated)], truncated, "--tensor-parallel", "2")
        self.assertEqual(log.count(str(truncated)), 1, "reported once")

    def test_more_ranks_than_leaves(self):
        self.assert_refuses(["8"], self.write_model("q4_1"), "--tensor-parallel", "9")
        self.assert_refuses(["3"], self.write_model("q4_1"), "--pipeline-parallel", "4")

    def test_a_model_larger_than_its_memory(self):
        self.assert_refuses(["rank 0", "bytes"], self.write_model("q4_1"), "--port", "0",
                            "--memory-bytes-max", "100000")

    def test_a_cache_larger_than_its_memory(self):
        self.assert_refuses(["bytes"], self.write_model("q4_1"), "--port", "0",
                            "--memory-bytes-max", "30000000", "--kv-cache-tokens", "10000000")

    def test_an_instruction_set_nobody_has_heard_of(self):
        self.assert_refuses(["nonsense"], self.write_model("q4_1"), "--port", "0",
                            env={"SHOAL_FORCE_ISA": "nonsense"})

    def test_an_instruction_set_nobody_has_heard_of_by_its_kernels(self):
        done = subprocess.run([program("shoal-worker"), "kernels"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=programs.END_SECONDS,
                              env={**os.environ, "SHOAL_FORCE_ISA": "nonsense"})
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("SHOAL_FORCE_ISA=nonsense: expected one of amx, avx512vnni, avx2, scalar",
                      done.stderr)
        self.assertIn("scalar: runs here", done.stdout)

    def test_an_instruction_set_that_is_not_there(self):
        if "amx_int8" in pathlib.Path("/proc/cpuinfo").read_text():
            self.skipTest("this machine has AMX")
        self.assert_refuses(["amx"], self.write_model("q4_1"), "--port", "0", "--tensor-parallel",
                            "2", env={"SHOAL_FORCE_ISA": "amx"}, status=4)


class OtherVerbs(ProgramTest):
    def output_of(self, *arguments, status=0):
        done = subprocess.run([program("shoal"), *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=programs.END_SECONDS)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def test_each_has_help(self):
        self.assertIn("Usage: shoal VERB", self.output_of("--help"))
        for verb in ("run", "chat", "plan", "status", "drain", "verify", "doctor", "version"):
            self.assertIn(f"Usage: shoal {verb}", self.output_of(verb, "--help"))

    def test_an_unknown_one_lists_them_all(self):
        message = self.output_of("rum", status=2)
        for verb in ("did you mean run", "chat", "plan", "status", "verify", "doctor", "version"):
            self.assertIn(verb, message)

    def test_plan_refuses_what_does_not_fit(self):
        model = self.write_model("q4_1")
        self.assertIn("rank 0", self.output_of("plan", model, "--memory-bytes-max", "1000", status=2))

    def test_verify_says_at_once_why_it_cannot_write(self):
        model = self.write_model("q4_1")
        message = self.output_of("verify", model, "--write", "no/such/digests.json", status=2)
        self.assertIn("no/such/digests.json: cannot be written: no/such: No such file or directory",
                      message)
        message = self.output_of("verify", model, "--write", "/dev/null", status=2)
        self.assertIn("/dev/null: expected a file to write to", message)

    def test_chat_starts_a_server_and_ends_it(self):
        model = self.write_model("q4_1")
        done = subprocess.run(
            [program("shoal"), "chat", model, "--max-tokens", "5", "--temperature", "0"],
            input="Hello\nAgain\n", capture_output=True, text=True, timeout=programs.READY_SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreaterEqual(done.stdout.count("\n"), 2)

    def test_status_without_a_coordinator_ends_with_3(self):
        self.output_of("status", "--coordinator", f"127.0.0.1:{programs.free_port()}", status=3)
        self.output_of("status", "--url", f"http://127.0.0.1:{programs.free_port()}", status=3)
        self.output_of("drain", "0", "--coordinator", f"127.0.0.1:{programs.free_port()}", status=3)

    def test_chat_without_a_server_ends_with_3(self):
        self.output_of("chat", "--url", f"http://127.0.0.1:{programs.free_port()}", status=3)


if __name__ == "__main__":
    programs.main()
