#!/usr/bin/env python3
"""Files for clang-tidy that stand for many sources each, as most of its time goes to headers.

    tidy_units.py BUILD OUT      BUILD holds compile_commands.json; OUT, a new folder, gets one for the units

Prints the path of each unit. Only what the build compiles: a source that nobody lists is not checked here, but fails to
link. Fails when an alias or a using-declaration serves nothing: clang-tidy looks for those in main files alone.
"""
import collections
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "cmake"))
import unity_groups  # noqa: E402

MOST = 12


def sources_by_flags(build):
    """{(command without files, folder): sources of this project}, each source once."""
    found = collections.defaultdict(list)
    seen = set()
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    for command in commands:
        path = os.path.normpath(os.path.join(command["directory"], command["file"]))
        if path in seen or not path.startswith(ROOT + "/") or path.startswith(ROOT + "/build/"):
            continue
        seen.add(path)
        flags = re.sub(r" -o \S+ -c \S+$", "", command["command"])
        found[flags, command["directory"]].append(path)
    return found


def unused(path):
    """Names that a using-declaration or an alias introduces and nothing mentions."""
    with open(path, encoding="utf-8") as file:
        code = unity_groups.NO_CODE.sub(" ", file.read())
    names = re.findall(r"^using (?:\w*::)+(\w+);|^namespace (\w+) =", code, re.M)
    return [name for pair in names for name in pair if name and len(re.findall(rf"\b{name}\b", code)) < 2]


def main(build, out):
    status = 0
    units = []
    for (flags, folder), paths in sources_by_flags(build).items():
        for path in paths:
            for name in unused(path):
                print(f"{path}: nothing uses '{name}'", file=sys.stderr)
                status = 1
        for group in unity_groups.groups(sorted(paths), MOST):
            unit = os.path.join(out, f"unit{len(units)}.cpp")
            with open(unit, "w", encoding="utf-8") as file:
                file.writelines(f'#include "{path}"\n' for path in group)
            units.append({"directory": folder, "file": unit, "command": f"{flags} -o unit.o -c {unit}"})
            print(unit)
    with open(os.path.join(out, "compile_commands.json"), "w", encoding="utf-8") as file:
        json.dump(units, file)
    return status


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])))
