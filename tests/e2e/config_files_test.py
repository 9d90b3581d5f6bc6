#!/usr/bin/env python3
"""configs/ lists exactly the options that the programs have, with their defaults, and the programs
accept every key."""

import pathlib
import re
import subprocess

import programs
from programs import ProgramTest, program

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
# Not options of their own, but of every program.
COMMON = {"config", "help"}
# Keys that only go together with another value than the default of a second one.
NOT_WITH_DEFAULTS = {"executor_command"}
# Files that are examples, too.
POLICIES = {"tenants_file": "tenants.yaml", "breaker_rules": "breaker_rules.yaml",
            "ladder": "ladder.yaml", "chat_template": "chat_template.jinja"}


def read_options(*command):
    """Key to default (None: none is shown) of everything in a program's --help."""
    text = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=programs.END_SECONDS,
                          check=True).stdout
    text = text.partition("\nEnvironment:")[0]
    options = {}
    for entry in re.split(r"\n  (?=--|MODEL)", text)[1:]:
        name = entry.split()[0].strip("-,").replace("-", "_").lower()
        default = re.search(r"\[([^]]*)\]\s*$", entry.partition("\n\n")[0])
        options[name] = default[1] if default else None
    return {name: default for name, default in options.items() if name not in COMMON}


def read_config(name):
    """Key to value, and the keys that are commented out."""
    values, commented = {}, {}
    for line in (CONFIGS / name).read_text().splitlines():
        match = re.fullmatch(r"(# )?([a-z_]+): (\S+|\".*\")", line)
        if match:
            (commented if match[1] else values)[match[2]] = match[3]
        else:
            assert line == "" or line.startswith("#"), line
    return values, commented


class ConfigFiles(ProgramTest):
    def assert_lists(self, name, *command):
        options = read_options(*command)
        values, commented = read_config(name)
        self.assertEqual(sorted(options), sorted([*values, *commented]))
        for key, value in values.items():
            if options[key] is not None:
                self.assertEqual(value, options[key], key)
        for key in commented:
            self.assertIsNone(options[key], key)

    def with_all_keys(self, name):
        """A copy in which no key is commented out, with files that exist."""
        values, commented = read_config(name)
        for key in NOT_WITH_DEFAULTS:
            commented.pop(key, None)
        for key in POLICIES:
            if key in commented:
                commented[key] = CONFIGS / POLICIES[key]
        for key in commented.keys() - POLICIES.keys():
            if key.endswith("_dir"):
                commented[key] = self.folder / f"{name}.{key}"
                commented[key].mkdir(exist_ok=True)
            if key.endswith("_file"):
                path = self.folder / f"{name}.{key}"
                path.write_text(f"secret-{key}\n")
                commented[key] = path
        config = self.folder / name
        config.write_text("".join(f"{k}: {v}\n" for k, v in {**values, **commented}.items()))
        return config

    def test_list_the_options_and_their_defaults(self):
        self.assert_lists("run_one_machine.yaml", program("shoal"), "run")
        self.assert_lists("coordinator.yaml", program("shoal-coordinator"))
        self.assert_lists("worker.yaml", program("shoal-worker"))

    def test_serve_with_every_key_of_run(self):
        config = self.with_all_keys("run_one_machine.yaml")
        running = self.start(program("shoal"), "run", self.write_model("q4_1"), "--config", config,
                             "--port", "0")
        running.wait_until_ready()
        self.assert_stops(running)

    def test_serve_with_every_key_of_coordinator_and_worker(self):
        model = self.write_model("q4_1")
        rpc = programs.free_port()
        coordinator = self.start(program("shoal-coordinator"), "--config",
                                 self.with_all_keys("coordinator.yaml"), "--model", model, "--port",
                                 "0", "--rpc-port", rpc)
        # One rank needs no mpirun.
        worker = self.start(program("shoal-worker"), "--config", self.with_all_keys("worker.yaml"),
                            "--model", model, "--coordinator", f"127.0.0.1:{rpc}")
        coordinator.wait_until_ready()
        self.assert_stops(coordinator)
        self.assertEqual(worker.wait()[0], 0, worker.log())


if __name__ == "__main__":
    programs.main()
