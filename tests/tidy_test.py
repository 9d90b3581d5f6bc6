#!/usr/bin/env python3
"""Checks the house rules that a compiler does not.

Usage: tidy_test.py [includes|text|functions|folders|format]... (all by default)
  includes  every #include stays within the DEPS of its folder's CMakeLists.txt, the DEPS keep to the
            direction below, and KJ, MPI and other guests stop where they must
  text      line and file lengths, words that must not be committed, a purpose in each head
  functions each short enough to read at once, tests and scripts too
  folders   few enough files in each folder to see at a glance what is there
  format    clang-format would change nothing (skipped, saying so, where clang-format is missing)
"""
import ast
import collections
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINES_MAX, HEADER_LINES_MAX = 600, 200
FUNCTION_LINES_MAX = 70  # From the first line of its signature to its closing brace.
FILES_MAX = 15  # Of sources in one folder.
CODE_COLUMNS_MAX, SCRIPT_COLUMNS_MAX = 100, 110

# What a folder may use, directly or through others. The arrows of the README's map.
BASE = {"transport/base"}
KERNELS = {"kernels/math", "kernels/format", "kernels/device", "kernels/cpu"}
MODEL = {"parallel/model", "kernels/format"}
RPC = {"transport/wire", "transport/rpc", "transport/config", "transport/client"}
ALLOWED = {
    "transport/base": set(),
    "transport/config": BASE,
    "transport/wire": BASE,
    "transport/client": set(),
    "transport/rpc": BASE | {"transport/wire", "transport/client"},
    "transport/link": BASE,
    "kernels/math": BASE,
    "kernels/format": BASE,
    "kernels/device": BASE,
    "kernels/cpu": BASE | {"kernels/math", "kernels/format", "kernels/device"},
    "parallel/model": BASE | {"kernels/format"},
    "parallel/text": BASE | MODEL,
    "parallel/plan": BASE | MODEL,
    "parallel/comm": BASE | {"transport/link", "kernels/device"},
    "worker/engine": BASE | MODEL | {"parallel/text", "kernels/math"},
    "worker/forward": BASE | KERNELS | MODEL
    | {"parallel/text", "parallel/plan", "parallel/comm", "transport/link", "worker/engine"},
    "worker/rank": BASE | KERNELS | MODEL | RPC
    | {"parallel/text", "parallel/plan", "parallel/comm", "transport/link", "worker/engine",
       "worker/forward"},
    "worker/tools": BASE | KERNELS | MODEL | RPC
    | {"parallel/text", "parallel/plan", "parallel/comm", "transport/link", "worker/engine",
       "worker/forward", "worker/rank"},
    "coordinator/core": BASE | MODEL | {"parallel/text", "parallel/plan"},
    "coordinator/store": BASE | MODEL | RPC | {"coordinator/core"},
    "coordinator/launch": BASE | MODEL | RPC | {"coordinator/core"},
    "coordinator/gateway": BASE | MODEL | RPC
    | {"parallel/text", "parallel/plan", "coordinator/core"},
    "coordinator/shell": BASE | MODEL | RPC
    | {"parallel/text", "parallel/plan", "coordinator/core", "coordinator/store",
       "coordinator/gateway", "coordinator/launch"},
    "coordinator/cli": BASE | MODEL | RPC
    | {"parallel/text", "parallel/plan", "coordinator/core", "coordinator/store",
       "coordinator/gateway", "coordinator/shell", "coordinator/launch"},
}
# Libraries whose types stop at these folders (and at the main.cc of a program).
GUESTS = {
    r"<(kj|capnp)/|\.capnp\.h\"": {"transport/wire", "transport/rpc", "coordinator/gateway",
                                     "coordinator/shell"},
    r"<mpi\.h>": {"parallel/comm"},
    r"<immintrin\.h>": {"kernels/cpu", "kernels/device"},
    r"<boost/": {"coordinator/gateway", "coordinator/cli"},
    r"<yaml-cpp/|<CLI/": {"transport/config"},
    r"<(utf8proc|pcre2)\.h>": {"parallel/text"},
}
BANNED = {
    r"\bFIXME\b|\bXXX\b": "say it as TODO(perf|correctness|cleanup|test): sentence, or do it",
    r"\bTODO\b(?!\((perf|correctness|cleanup|test)\): \S)": "write TODO(kind): sentence",
    r"using namespace": "qualify the name",
}
SLEEP = r"\bsleep_for\b|\busleep\(|(?<!_)\bsleep\("
# Where a wait on the wall clock is the thing itself.
SLEEPERS = {"coordinator/cli/drain.cc", "coordinator/cli/status.cc", "coordinator/launch/child_process.cc"}


def tracked(*patterns):
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "--cached", "--others",
                            "--exclude-standard", "--", *patterns],
                           check=True, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in names if (ROOT / name).exists()]


def sources():
    return tracked("*.h", "*.cc", "*.cu", "*.cuh")


def folder_of(name):
    return "/".join(name.split("/")[:2])


def declared():
    """The DEPS of each folder, from its CMakeLists.txt."""
    folder_of_target, deps = {}, {}
    for folder in ALLOWED:
        path = ROOT / folder / "CMakeLists.txt"
        if path.exists():
            names = re.findall(r"shoal_(?:library|capnp)\((shoal_\w+)", path.read_text())
            folder_of_target.update({name: folder for name in names})
    for folder in ALLOWED:
        path = ROOT / folder / "CMakeLists.txt"
        blocks = re.findall(r"DEPS([\w\s]*)", path.read_text()) if path.exists() else []
        names = {name for block in blocks for name in block.split() if name.startswith("shoal_")}
        deps[folder] = {folder_of_target[name] for name in names if name in folder_of_target}
    return deps


def closure(deps, folder):
    seen, open_folders = set(), [folder]
    while open_folders:
        for dep in deps[open_folders.pop()]:
            if dep not in seen:
                seen.add(dep)
                open_folders.append(dep)
    return seen


def check_includes():
    deps = declared()
    for folder, allowed in ALLOWED.items():
        for dep in sorted(closure(deps, folder) - allowed - {folder}):
            yield f"{folder}/CMakeLists.txt: must not depend on {dep}, directly or through others"
    for path in sources():
        name = str(path.relative_to(ROOT))
        home = folder_of(name)
        if home not in ALLOWED:
            continue
        usable = closure(deps, home) | {home}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            include = re.match(r'#include (<.+>|"(.+)")', line)
            if not include:
                continue
            target = folder_of(include[2]) if include[2] else None
            if target in ALLOWED and target not in usable:
                yield f"{name}:{number}: {target} is not among the DEPS of {home}"
            for guest, homes in GUESTS.items():
                if re.search(guest, include[1]) and home not in homes and path.name != "main.cc":
                    yield f"{name}:{number}: {include[1]} may be included in {sorted(homes)} only"


def check_text():
    for path in sources() + tracked("*.py", "*.sh"):
        name, lines = str(path.relative_to(ROOT)), path.read_text().splitlines()
        is_code = path.suffix in {".h", ".cc", ".cu", ".cuh"}
        columns_max = CODE_COLUMNS_MAX if is_code else SCRIPT_COLUMNS_MAX
        lines_max = HEADER_LINES_MAX if path.suffix in {".h", ".cuh"} else LINES_MAX
        if len(lines) > lines_max:
            yield f"{name}: {len(lines)} lines; split it at {lines_max}"
        for number, line in enumerate(lines, 1):
            if len(line) > columns_max:
                yield f"{name}:{number}: {len(line)} columns, {columns_max} at most"
            if not is_code:
                continue
            for pattern, advice in BANNED.items():
                if re.search(pattern, line):
                    yield f"{name}:{number}: '{line.strip()}': {advice}"
            if name not in SLEEPERS and re.search(SLEEP, line):
                yield f"{name}:{number}: '{line.strip()}': wait for the thing, with a deadline"
        if path.suffix == ".h" and "#pragma once" not in lines[:3]:
            yield f"{name}: starts without #pragma once"
        head = "\n".join(lines[:25])
        if path.suffix == ".cc" and path.with_suffix(".h").exists():
            continue  # Its header says it.
        if is_code and not re.search(r"^//", head, re.MULTILINE):
            yield f"{name}: no comment near its top says what it is for"


def blanked(code):
    """The code without comments, directives and what stands in quotes; its lines stay where they are."""
    pattern = re.compile(r'''R"(?P<tag>[^(\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"'''
                         r'''|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|//[^\n]*|/\*.*?\*/'''
                         r'''|^[ ]*\#(?:\\\n|[^\n])*''', re.DOTALL | re.MULTILINE)
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), code)


def is_function(head):
    """Whether what stands before an opening brace outside of functions is a function's signature."""
    head = re.sub(r"operator(\(\)|[^\w\s(]+)", "operator", re.sub(r" [<>=]=? ", " = ", head))
    before = None
    while before != head:  # What is in brackets may hold anything, default values above all.
        before = head
        head = re.sub(r"\([^()<>]*\)", "@", re.sub(r"<[^()<>]*>", "", head))
    return "@" in head and "=" not in re.sub(r"@\s*:.*", "", head, flags=re.DOTALL)


def cc_functions(code):
    """(first line, last line, signature) of all functions; a lambda is a part of what holds it."""
    code = blanked(code)
    begin, depth, found = 0, 0, False  # Of the declaration at hand.
    for at, character in enumerate(code):
        if depth > 0:
            depth += (character == "{") - (character == "}")
            # A brace in a constructor's list of members or in a default value ends no declaration.
            if depth == 0 and not code[at + 1:at + 9].lstrip().startswith((",", "{", ")")):
                if found:
                    begin += len(code[begin:]) - len(code[begin:].lstrip())
                    first, last = (code.count("\n", 0, place) + 1 for place in (begin, at))
                    yield first, last, " ".join(code[begin:code.index("{", begin)].split())
                begin = at + 1
        elif character == "{":
            head = code[begin:at]
            scope = r"((inline )?namespace|class|struct|union)\b|extern\s*$"
            if re.match(rf"\s*(template\b.*>\s*)?({scope})", head, re.DOTALL):
                begin = at + 1
                continue
            found = is_function(head)
            depth = 1
        elif character in ";}" or (character == ":" and code[begin:at].split()[-1:] and
                                   code[begin:at].split()[-1] in {"public", "protected", "private"}):
            begin = at + 1


def script_functions(path):
    text = path.read_text()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.lineno, node.end_lineno, node.name
        return
    for found in re.finditer(r"^(\w+)\(\) \{\n.*?^\}$", text, re.DOTALL | re.MULTILINE):
        first = text.count("\n", 0, found.start()) + 1
        yield first, first + found[0].count("\n"), found[1]


def check_functions():
    for path in sources() + tracked("*.py", "*.sh"):
        name, text = str(path.relative_to(ROOT)), path.read_text()
        is_script = path.suffix in {".py", ".sh"}
        found = list(script_functions(path) if is_script else cc_functions(text))
        for first, last, signature in found:
            if last - first >= FUNCTION_LINES_MAX:
                yield (f"{name}:{first}: {last - first + 1} lines; split it at {FUNCTION_LINES_MAX}: "
                       f"{signature}")
        if not is_script:
            seen = {last for _, last, _ in found}
            for number, line in enumerate(text.splitlines(), 1):
                if line == "}" and number not in seen:
                    yield f"{name}:{number}: this check does not see which function ends here"


def check_folders():
    count = collections.Counter(path.parent for path in sources() + tracked("*.py", "*.sh"))
    for folder, files in sorted(count.items()):
        if files > FILES_MAX:
            yield f"{folder.relative_to(ROOT)}: {files} sources; sub-folders beyond {FILES_MAX}"


def check_format():
    if shutil.which("clang-format") is None:
        print("format: skipped, no clang-format here")
        return
    files = [str(path) for path in sources()]
    run = subprocess.run(["clang-format", "--dry-run", "--Werror", *files],
                         capture_output=True, text=True)
    for line in run.stderr.splitlines():
        if "error:" in line:
            yield line.replace(str(ROOT) + "/", "")


def main():
    checks = {"includes": check_includes, "text": check_text, "functions": check_functions,
              "folders": check_folders, "format": check_format}
    found = [f"{name}: {problem}" for name in sys.argv[1:] or checks for problem in checks[name]()]
    print("\n".join(found) or f"{len(sources())} source files are tidy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
