#!/usr/bin/env python3
"""Every instruction set of this machine prints the digests in tests/golden/digests.json.

Usage: digests_test.py --programs FOLDER [--scalar-smollm2]
The generated models are digested by every instruction set, the real one (if it is there) by the
vector ones; with --scalar-smollm2 by the scalar one too, which takes minutes.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests/golden/digests.json"
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
SPECS = ["q4_1", "q4_0", "q8_0", "f16", "bf16_folder", "f32_folder", "nine_heads", "head_dim_80",
         "long", "very_long", "k_quants"]
DEADLINE_S = 3600


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", required=True, type=pathlib.Path)
    parser.add_argument("--scalar-smollm2", action="store_true")
    options = parser.parse_args()

    def run(*command, isa=None):
        environment = dict(os.environ, **({"SHOAL_FORCE_ISA": isa} if isa else {}))
        return subprocess.run([options.programs / command[0], *map(str, command[1:])], text=True,
                              capture_output=True, timeout=DEADLINE_S, env=environment)

    # The doctor's line "instruction sets: avx512vnni avx2 scalar" names those that run here.
    doctor = run("shoal", "doctor").stdout
    sets = next(line.split(":")[1].split() for line in doctor.splitlines()
                if "instruction sets:" in line)
    failures = []
    compared = 0
    with tempfile.TemporaryDirectory() as folder:
        models = [run("shoal_write_model", spec, folder).stdout.strip() for spec in SPECS]
        for isa in sets:
            tasks = list(models)
            if SMOLLM2.exists() and (isa != "scalar" or options.scalar_smollm2):
                tasks.append(SMOLLM2)
            for model in tasks:
                result = run("shoal", "verify", model, "--against", GOLDEN, isa=isa)
                compared += 1
                if result.returncode != 0:
                    failures.append(f"{isa}: {model}: exit {result.returncode}\n{result.stderr}")
    print("\n".join(failures) or f"{compared} comparisons with {GOLDEN.name}: equal ({sets})")
    return 1 if failures or compared < len(SPECS) else 0


if __name__ == "__main__":
    sys.exit(main())
